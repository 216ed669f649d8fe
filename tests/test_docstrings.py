"""Docstrings have one style: reST fields, double backticks, and fields that say what a parameter is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = {
    "a block in place of reST fields": re.compile(r"^\s*(Args|Arguments|Returns|Raises|Yields):\s*$", re.MULTILINE),
    "a field that begins with 'of'": re.compile(r":(param|ivar) \w+: of "),
    "single backticks": re.compile(r"(?<![`\w:])`[^`\n]+`(?![`_])"),
}


def faults_of(docstring):
    return [name for name, fault in FAULTS.items() if fault.search(docstring)]


def test_these_faults_are_found():
    assert faults_of("Do.\n\n    Raises:\n        ValueError: never\n") == ["a block in place of reST fields"]
    assert faults_of(":param seed: of the walk") == ["a field that begins with 'of'"]
    assert faults_of("See `Sight`.") == ["single backticks"]
    assert not faults_of("See ``Sight``.\n\n:param seed: starts the walk\n:raises ValueError: never")


@pytest.mark.parametrize("package", ["farl", "agents", "envs", "benchmarks"])
def test_docstrings_have_one_style(package):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds) and (faults := faults_of(ast.get_docstring(node) or "")):
                found[f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"] = faults
    assert not found
