"""The pose benchmark: every method runs, and what the videos and settings must be."""

import pytest
import torch

from benchmarks.harness import Job, main
from benchmarks.pose_tracking import BENCHMARK, CAMERA, METHODS, bar, record, run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_follows_two_bodies_for_some_frames(method):
    row = run(Job("pose_tracking", method, "two-n50", 0, {"frames": 8}))
    assert set(row["bodies"]) == {"mug", "bracket"}
    assert 0 < row["ess"] <= 1
    assert row["curves"]["add"]["y"][0] < 0.3
    assert all(torch.tensor(row[metric]).isfinite() for metric in BENCHMARK.metrics)


def test_a_run_repeats_itself_and_videos_differ_with_the_seed():
    rows = [run(Job("pose_tracking", "bootstrap", "two-n50", seed, {"frames": 8})) for seed in (0, 0, 1)]
    assert rows[0]["bodies"] == rows[1]["bodies"]
    assert rows[0]["bodies"] != rows[2]["bodies"]


def test_the_bootstrap_filter_follows_one_body_with_many_particles():
    row = run(Job("pose_tracking", "bootstrap", "two-n1000", 0, {"frames": 8, "deviation": 0.016}))
    assert row["add"] < 0.25


def test_videos_have_wrong_and_missing_readings_and_a_bar_that_passes():
    video = record(("mug",), 12, 0)
    missing = video.pictures.isnan().double().mean()
    assert 0.02 < missing < 0.04
    covered = [int(bar(CAMERA, frame, 12).sum()) for frame in range(12)]
    assert covered[0] == covered[-1] == 0
    assert max(covered) >= 4 * CAMERA.height
    clean = video.scene.depth(video.truth)
    seen = ~torch.stack([bar(CAMERA, frame, 12) for frame in range(12)])
    close = (video.pictures - clean).abs()[seen & video.pictures.isfinite()] < 0.02
    assert 0.9 < close.double().mean() < 0.97


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "5"], "--frames 5: at least 8"),
        (["--step", "-1"], "--step -1.0: must be above 0"),
        (["--deviation", "nan"], "--deviation nan: must be above 0"),
        (["--methods", "rfpf"], "unknown method 'rfpf'"),
    ],
)
def test_bad_settings_are_one_line(arguments, message, tmp_path, capsys):
    assert main(BENCHMARK, [*arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
