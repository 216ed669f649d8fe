import re
from pathlib import Path

import pytest

from farl.curiosity import MODULES
from farl.experiment.yaml_source import parse_value
from farl.sb3.config import FARConfig

PAGE = (Path(__file__).parents[2] / "docs" / "curiosity.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_the_page_tells_of_every_module_and_every_setting(name):
    assert PAGE.count(f"| `{name}`") >= 2, "in the table of modules and in that of sources"
    for setting in MODULES[name].model_fields:
        assert f"`{setting}`" in PAGE or f"{setting}:" in PAGE, setting


def test_the_pages_configurations_are_valid():
    snippets = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert snippets
    for snippet in snippets:
        FARConfig.parse(parse_value(snippet)["far"])


def test_the_page_says_rightly_which_modules_can_be_fragmented():
    rows = dict(re.findall(r"^\| `(\w+)`[^\n]*\| (yes|no|if the[^|]*) \|$", PAGE, re.M))
    for name, config in MODULES.items():
        assert rows[name] != "no" if config().why_not_fragmentable() is None else rows[name] == "no"
