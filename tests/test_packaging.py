"""What a user installs and reads is whole: packages, data, examples."""

import doctest
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_every_package_is_listed_for_installation():
    inside = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "farl").rglob("__init__.py")}
    beside = {
        "farl." + ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("agents", "envs", "configs")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == inside | beside


def test_what_is_imported_as_farl_but_lies_beside_it_is_found():
    for package in ("farl.agents", "farl.envs", "farl.configs"):
        found = Path(importlib.import_module(package).__file__).parent
        assert found.name == SETUPTOOLS["package-dir"].get(package, package.removeprefix("farl."))


def test_every_direct_dependency_is_pinned_in_the_constraints():
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(item for items in extras.values() for item in items)]
    names = {re.match(r"[\w.-]+", item)[0].lower().replace("_", "-") for item in wanted}
    # sbx-rl is tested in an environment of its own.
    assert names - pinned <= {"farl", "glfw", "sbx-rl"}


@pytest.mark.parametrize("module", ["farl.memory.long_term_memory", "farl.sb3.factory"])
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block.replace("10_000", "64"), "README.md", "exec"), {})


def test_pictures_and_pages_that_the_readme_shows_exist():
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
