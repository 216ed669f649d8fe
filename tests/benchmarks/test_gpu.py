"""The script for a machine with a GPU, on a CPU: it measures what it can and says what it could not."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


def measured(out: Path, *options: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = gpu.main(["--out", str(out), "--device", "cpu", "--quick", *options])
    return code, {row["line"]: row for row in json.loads((out / "gpu.json").read_text())["rows"]}


def test_a_line_is_measured_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = measured(tmp_path, "--lines", "particles-5m")
    assert code == 0
    assert isinstance(rows["particles-5m"]["found"], float)
    assert "not measured: none" in capsys.readouterr().out
    assert (tmp_path / "table.md").is_file()


def test_lines_that_fail_or_hang_are_told_of_and_the_others_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A line of a name that its process does not know fails; one whose time is up has hung.
    monkeypatch.setattr(gpu, "LINES", {"unknown": gpu.Line("fails", lambda context: 1.0, 1.0), **gpu.LINES})
    code, rows = measured(tmp_path / "failed", "--lines", "unknown")
    assert code == 1
    assert rows["unknown"]["found"] is None
    monkeypatch.setattr(gpu, "SECONDS_IN_ALL", 0.2)
    code, rows = measured(tmp_path / "hung", "--lines", "fast-ppo,unknown")
    assert [row["found"] for row in rows.values()] == [None, None]
    assert "not done after" in str(rows["fast-ppo"]["verdict"])
    assert "not measured: fast-ppo, unknown" in capsys.readouterr().out


def test_all_lines_have_a_limit_and_together_less_than_eight_minutes() -> None:
    assert gpu.SECONDS_IN_ALL <= 480
    assert all(line.wanted > 0 for line in gpu.LINES.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--device", "cpu"], "--out DIR"), (["--out", "x", "--device", "cpu", "--lines", "none"], "no such line: none")],
)
def test_wrong_options_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "no GPU" in capsys.readouterr().err
