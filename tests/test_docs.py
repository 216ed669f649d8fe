"""The docs do what they say: snippets run, commands exist, every logged key is explained, tables are the results'."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import discover
from benchmarks.tables import cell, number, pages, rewritten
from farl.cli import _parse
from farl.experiment.loading import load_config
from farl.experiment.shipped import shipped_configs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TAUGHT = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("how-to/*.md")])
_FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_SAVED = re.compile(r"[Ss]ave this as `([\w.]+)`[^`]*?:\n\n```\w*\n(.*?)```", re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def commands(page: Path) -> Iterator[list[str]]:
    for block in blocks(page, "") + blocks(page, "sh") + blocks(page, "bash"):
        for line in block.replace(" && ", "\n").splitlines():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0]:  # variables of the environment
                words.pop(0)
            if words:
                yield words


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.mark.parametrize("page", TAUGHT, ids=lambda page: page.stem)
def test_python_snippets_of_tutorials_run(page: Path, in_folder: Path) -> None:
    for block in blocks(page, "python"):
        if "init_process_group" not in block:  # runs under torchrun: tests/particles
            exec(compile(block, str(page), "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("page", TAUGHT, ids=lambda page: page.stem)
def test_yaml_of_tutorials_is_valid(page: Path, in_folder: Path) -> None:
    saved = dict(_SAVED.findall(page.read_text(encoding="utf-8")))
    for name, text in saved.items():
        (in_folder / name).write_text(text, encoding="utf-8")
    for name in saved:
        if name.endswith(".yaml"):
            load_config(name)
    for number_, text in enumerate(blocks(page, "yaml")):
        if "base:" in text and "plan.png" not in text:
            (in_folder / f"block_{number_}.yaml").write_text(text, encoding="utf-8")
            load_config(f"block_{number_}.yaml")
        elif text.startswith("far:"):
            (in_folder / f"block_{number_}.yaml").write_text(f"base: quickstart.yaml\n{text}", encoding="utf-8")
            load_config(f"block_{number_}.yaml")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_commands_exist(page: Path) -> None:
    benchmarks = {benchmark.name for benchmark in discover()} | {"tables"}
    for words in commands(page):
        if words[0].endswith("farl"):
            options = _parse(words[1:])
            named = [getattr(options, "config", "")] + [
                word for word in getattr(options, "words", []) if "=" not in word
            ]
            for name in named:
                assert not name or "." in name or "/" in name or name in shipped_configs(), words
        elif "-m" in words and words[words.index("-m") + 1].startswith("benchmarks."):
            name = words[words.index("-m") + 1].removeprefix("benchmarks.")
            assert name in benchmarks or name == "NAME", words


def test_every_logged_key_is_explained() -> None:
    page = (DOCS / "reference" / "logged_keys.md").read_text(encoding="utf-8")
    source = "".join(path.read_text() for folder in ("farl", "agents") for path in (ROOT / folder).rglob("*.py"))
    logged = re.findall(r"record(?:_mean)?\(\s*f?\"((?:far|explor\w+|particles|sequence|config)/[^\"]+)\"", source)
    assert len(logged) > 20
    for key in set(logged):
        if key == "far/{name}":
            continue  # those of the forgetting meter, which the next test names
        told = re.sub(r"\{\w+\}", "*", key)
        assert f"`{told}`" in page, f"explain {told} in docs/reference/logged_keys.md"


def test_tables_are_those_of_the_results() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        assert rewritten(text) == text, f"{page}: run python -m benchmarks.tables"


def test_numbers_in_tables_say_how_many_runs_they_rest_on() -> None:
    assert number(0.00748) == "0.00748"
    assert number(4321.6) == "4,320"
    assert cell({"mean": 0.5, "low": 0.4, "high": 0.6, "n": 5}, {}) == "0.5 [0.4, 0.6]"
    assert cell({"mean": 0.5, "low": 0.4, "high": 0.6, "n": 3}, {"interval": False}) == "0.5 (3 runs)"
    assert cell({"mean": 54_321.0, "low": 5e4, "high": 6e4, "n": 5}, {"times": 0.001, "unit": " k"}) == (
        "54.3 k [50, 60]"
    )
    assert cell(None, {}) == "not run"


def test_the_readme_is_short_and_plain() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    for phrase in ("hangs on", "what it does is not", "of the y"):
        assert phrase not in text
