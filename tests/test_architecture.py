"""The page on architecture: its snippets run and are short, and what it names is there."""

import importlib
import re
from pathlib import Path

import gymnasium
import pytest

from farl.curiosity import ActionSpec
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
BOTH = PAGE + (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_a_criterion_a_recall_a_module_and_an_environment_are_added_in_at_most_30_lines_each():
    added = re.findall(r"^## Adding an? ([\w ]+)$", PAGE, re.M)
    assert added == ["criterion", "recall", "curiosity module", "environment"]
    assert len(SNIPPETS) == len(added)
    assert max(len(snippet.strip().splitlines()) for snippet in SNIPPETS) <= 30
    namespace = {"__name__": "page"}
    known = set(gymnasium.registry)
    try:
        for number, snippet in enumerate(SNIPPETS):
            exec(compile(snippet, f"docs/architecture.md, snippet {number + 1}", "exec"), namespace)
    finally:
        for name in set(gymnasium.registry) - known:
            del gymnasium.registry[name]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:farl|agents|envs)/[\w/]+\.py)`", BOTH))))
def test_the_files_it_names_are_there(path):
    assert (ROOT / path).is_file()


NAMED = re.findall(r"`((?:farl|agents)/[\w/]+\.py)`, `([\w.]+)`", BOTH)
NAMED += [(path, name) for name, path in re.findall(r"`([\w.]+)` in `((?:farl|agents)/[\w/]+\.py)`", BOTH)]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_functions_it_names_are_in_the_files_it_names(path, name):
    module = path.removesuffix(".py").replace("/", ".")
    found = importlib.import_module(module if module.startswith("farl.") else f"farl.{module}")
    *classes, last = name.split(".")
    owners = [getattr(found, each) for each in classes] or [found, *vars(found).values()]
    assert any(hasattr(owner, last) for owner in owners)


def test_it_tells_all_that_a_curiosity_saves():
    curiosity = build_curiosity(FARConfig(), (3,), ActionSpec(2, discrete=True), 2, "cpu", 0)
    section = PAGE.split("## What a checkpoint holds")[1].split("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(curiosity.state_dict())
