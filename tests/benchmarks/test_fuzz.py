"""Broken input is answered by errors of ours alone; the long form is ``python -m benchmarks.fuzz``."""

from pathlib import Path

import pytest

from benchmarks.fuzz import Broken, checked, fuzz, targets
from farl.errors import ConfigError


@pytest.mark.parametrize("name", ["state", "memory", "manifest", "zip", "plain", "map-txt", "map-npz", "map-pgm"])
def test_a_few_broken_files_of_each_kind_are_one_line(tmp_path: Path, name: str) -> None:
    seeds, target, _ = targets(tmp_path)[name]
    assert fuzz(name, seeds, target, 60) is None


@pytest.mark.parametrize("name", ["config", "override"])
def test_a_few_broken_configurations_are_one_line(tmp_path: Path, name: str) -> None:
    seeds, target, _ = targets(tmp_path)[name]
    assert fuzz(name, seeds, target, 20) is None


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [KeyError("x"), ConfigError("a\nb"), ConfigError("x" * 301)])
def test_the_fuzzer_sees_what_is_no_short_line_of_ours(error: Exception) -> None:
    with pytest.raises(Broken):
        checked(lambda: _fail(error))
    assert fuzz("x", [b"seed"], lambda content: checked(lambda: _fail(error)), 3) is not None
    checked(lambda: _fail(ConfigError("short")))
