import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import discover
from benchmarks._results import read_results
from benchmarks.harness import main
from farl.errors import ConfigError
from farl.experiment.sweep.settings import parse_seeds

sys.path.insert(0, str(Path(__file__).parent))
from toy import BENCHMARK


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    path.write_text("")
    monkeypatch.setenv("TOY_LOG", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return path


def results(out: Path) -> dict[str, Any]:
    return read_results(out / "results.json")


def test_results_hold_rows_summary_and_facts(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(BENCHMARK, ["--out", str(out), "--jobs", "1"]) == 0
    document = results(out)
    assert set(document) >= {"name", "command", "versions", "cpu", "seconds", "date", "rows", "summary"}
    assert len(document["rows"]) == 2 * 2 * 2
    cell = document["summary"]["a"]["hard"]["score"]
    assert cell == {"mean": 1.5, "low": 1.0, "high": 2.0, "n": 2}
    assert "nothing" not in document["summary"]["a"]["hard"]
    assert "| a | 1.5 [1, 2] (2) | - |" in (out / "table.md").read_text()
    assert {path.name for path in out.glob("*.png")} == {"score.png", "curve_learning.png"}
    assert log.read_text().splitlines()[:4] == ["a easy 0", "b easy 0", "a hard 0", "b hard 0"]


def test_finished_runs_are_kept_and_changed_parameters_run_again(log: Path, tmp_path: Path) -> None:
    command = ["--out", str(tmp_path / "out"), "--jobs", "1", "--quick"]
    main(BENCHMARK, command)
    main(BENCHMARK, command)
    assert len(log.read_text().splitlines()) == 2
    (row, *_) = (tmp_path / "out" / "rows").iterdir()
    row.write_text("{")  # as if the disk had been full
    main(BENCHMARK, command)
    assert len(log.read_text().splitlines()) == 3
    main(BENCHMARK, [*command, "--suite", "other"])
    assert len(log.read_text().splitlines()) == 5


def test_published_results_are_continued(log: Path, tmp_path: Path) -> None:
    published = ["--continue-from", str(tmp_path / "first" / "results.json")]
    main(BENCHMARK, ["--out", str(tmp_path / "first"), "--jobs", "1", "--seeds", "0"])
    main(BENCHMARK, ["--out", str(tmp_path / "all"), "--jobs", "1"])
    log.write_text("")
    assert main(BENCHMARK, ["--out", str(tmp_path / "second"), "--jobs", "1", *published]) == 0
    assert {line.split()[-1] for line in log.read_text().splitlines()} == {"1"}
    assert results(tmp_path / "second")["summary"] == results(tmp_path / "all")["summary"]


def test_the_commit_is_recorded_and_runs_of_two_are_not_merged_silently(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks._pool.code_version", lambda: "aaaa")
    main(BENCHMARK, ["--out", str(tmp_path / "out"), "--jobs", "1", "--seeds", "0"])
    assert results(tmp_path / "out")["commits"] == {"aaaa": 4}
    assert "Commit: aaaa" in (tmp_path / "out" / "table.md").read_text()
    assert "different commits" not in capsys.readouterr().err
    monkeypatch.setattr("benchmarks._pool.code_version", lambda: "bbbb")
    main(BENCHMARK, ["--out", str(tmp_path / "out"), "--jobs", "1"])
    assert results(tmp_path / "out")["commits"] == {"aaaa": 4, "bbbb": 4}
    assert "aaaa (4), bbbb (4)" in (tmp_path / "out" / "table.md").read_text()
    assert "aaaa (4 runs), bbbb (4 runs)" in capsys.readouterr().err


def test_results_of_another_benchmark_are_not_continued(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "results.json"
    other.write_text('{"name": "other", "rows": []}')
    assert main(BENCHMARK, ["--out", str(tmp_path / "out"), "--continue-from", str(other)]) == 2
    assert "holds results of other, not of toy" in capsys.readouterr().err


@pytest.mark.parametrize(("trouble", "message"), [("raise", "ValueError: no luck"), ("die", "process died")])
def test_crashed_job_loses_no_other_and_is_tried_again(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, message: str
) -> None:
    command = ["--out", str(tmp_path / "out"), "--jobs", "2", "--quick"]
    monkeypatch.setenv("TOY_TROUBLE", trouble)
    assert main(BENCHMARK, command) == 1
    rows = {row["method"]: row for row in results(tmp_path / "out")["rows"]}
    assert rows["a"]["score"] == 1.0
    assert message in rows["b"]["error"]
    monkeypatch.delenv("TOY_TROUBLE")
    assert main(BENCHMARK, command) == 0
    assert results(tmp_path / "out")["summary"]["b"]["easy"]["score"]["n"] == 1


def test_selection_of_methods_conditions_and_seeds(log: Path, tmp_path: Path) -> None:
    arguments = ["--methods", "b", "--conditions", "hard", "--seeds", "3,5-6", "--jobs", "1"]
    assert main(BENCHMARK, ["--out", str(tmp_path / "out"), *arguments]) == 0
    assert log.read_text().splitlines() == ["b hard 3", "b hard 5", "b hard 6"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "aa"], "unknown method 'aa'; "),
        (["--conditions", "hrad"], "did you mean hard?"),
        (["--methods", ","], "no method given"),
        (["--seeds", "4-2"], "write single seeds or ranges"),
        (["--seeds", "x"], "write single seeds or ranges"),
        (["--jobs", "0"], "at least 1"),
        (["--quick", "--full"], "not allowed"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_bad_arguments_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(BENCHMARK, ["--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_file_in_place_of_the_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("")
    assert main(BENCHMARK, ["--out", str(tmp_path / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_seeds_are_single_numbers_and_ranges() -> None:
    assert parse_seeds("0-2,7,1") == [0, 1, 2, 7]
    with pytest.raises(ConfigError):
        parse_seeds("0-999999999")


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in RESULTS.glob("*/results.json")), ids=lambda path: path.name
)
def test_published_results_are_whole_and_their_folders_named_alike(folder: Path) -> None:
    document = read_results(folder / "results.json")
    assert folder.name == document["name"] or folder.name.startswith(f"{document['name']}-"), (
        "name it BENCHMARK-VARIANT"
    )
    assert "rows" not in json.loads((folder / "results.json").read_text()), "write them with the harness: rows.json.gz"
    counted = {cell["n"] for by in document["summary"].values() for cells in by.values() for cell in cells.values()}
    assert max(counted) <= len(document["rows"])
    assert not re.search(r"\b(one|two|three|four|five|ten) (repeats|seeds)\b", document["note"]), (
        "the table counts runs"
    )


def test_every_benchmark_is_found_and_offers_the_three_sizes() -> None:
    found = {benchmark.name: benchmark for benchmark in discover()}
    assert "overhead" in found
    for benchmark in found.values():
        assert set(benchmark.sizes) == {"quick", "default", "full"}


def test_workers_of_a_killed_benchmark_end_with_it(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_TROUBLE", "hang")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.getcwd()]))
    script = "import sys; from toy import BENCHMARK; from benchmarks.harness import main; main(BENCHMARK, sys.argv[1:])"
    parent = subprocess.Popen([sys.executable, "-c", script, "--out", str(tmp_path / "out"), "--jobs", "1", "--quick"])
    worker = int(wait_for(lambda: log.read_text()))
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not is_alive(worker))


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
