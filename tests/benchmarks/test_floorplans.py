import gzip
import json

import numpy as np
from PIL import Image

from benchmarks.floorplans import BENCHMARK
from benchmarks.harness import main


def test_a_folder_of_ros_maps_gives_a_row_for_each_plan(tmp_path):
    plans = tmp_path / "plans"
    plans.mkdir()
    for name, side in (("small", 12), ("wide", 20)):
        levels = np.full((side, 2 * side), 205, np.uint8)
        levels[1:-1, 1:-1] = 0
        levels[2:-2, 2:-2] = 254
        Image.fromarray(levels).save(plans / f"{name}.pgm")
        (plans / f"{name}.yaml").write_text(f"image: {name}.pgm\nresolution: 0.1\norigin: [0, 0, 0]\n")
    out = tmp_path / "out"
    command = [
        "--maps",
        str(plans),
        "--out",
        str(out),
        "--quick",
        "--steps",
        "60",
        "--methods",
        "farmap-plus,infogain,oracle",
    ]
    assert main(BENCHMARK, [*command, "--resolution", "0.1", "--jobs", "1"]) == 0
    rows = json.loads(gzip.decompress((out / "rows.json.gz").read_bytes()))
    assert {row["condition"] for row in rows} == {"maps", "small", "wide"}
    for row in rows:
        assert 0.5 < row["coverage"] <= 1.0
        # The oracle keeps no map.
        assert row["iou"] is None if row["method"] == "oracle" else 0.5 < row["iou"] <= 1.0
        assert 0 < row["steps_to_end"] <= 60
        assert 0 < row["metres_to_end"] <= row["metres"]
        assert row["memory_mean"] > 0
        assert 0 < row["metres"] <= 6.0


def test_a_folder_without_maps_is_one_line(tmp_path, capsys):
    assert main(BENCHMARK, ["--maps", str(tmp_path), "--out", str(tmp_path / "out"), "--quick"]) == 2
    assert "holds no map" in capsys.readouterr().err
