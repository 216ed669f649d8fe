"""Draws the pictures of ``docs/seeing.md`` anew: ``python docs/draw_views.py``, about ten minutes on one CPU core.

Each row of its table is a short run; each picture of a run is made smaller and kept in ``docs/images/views``.
"""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from farl import load_run
from farl.experiment.loading import load_config
from farl.experiment.run import train
from farl.figures import figure_array

OUT = Path(__file__).parent / "images" / "views"
WIDTH = 480  # pixels: what a column of the table shows on a wide screen, twice


class Row(NamedTuple):
    """One kind of environment.

    :ivar config: a configuration that comes with FARL
    :ivar overrides: what is changed in it
    :ivar pictures: names of the pictures kept
    """

    config: str
    overrides: tuple[str, ...]
    pictures: tuple[str, ...]


_ATARI = ("gallery", "timeline", "surprisal", "memory_graph")
ROWS = {
    "rooms": Row("quickstart", (), ("visits", "fragment_map", "intrinsic_reward", "memory_graph")),
    "procedural": Row(
        "minigrid_multiroom",
        ("total_timesteps=60_000", "far.criterion={name: zscore, threshold: 3}"),
        ("visits", "worlds", "intrinsic_reward", "surprisal"),
    ),
    "maps": Row("farmap_plus", (), ("worlds", "map", "timeline", "memory_graph")),
    "vector": Row(
        "quickstart",
        (
            "environment={kind: gymnasium, id: MountainCar-v0, n_envs: 8}",
            "total_timesteps=40_000",
            "logging.axes=[position, velocity]",
        ),
        ("visits", "fragment_map", "surprisal", "memory_graph"),
    ),
    "atari": Row(
        "atari_montezuma",
        (
            "total_timesteps=8_192",
            "environment.n_envs=8",
            "algorithm.hyperparameters.n_epochs=1",
            "far.warmup=1_024",
            "far.criterion.threshold=3",
        ),
        _ATARI,
    ),
    "procgen": Row(
        "procgen_starpilot",
        (
            "total_timesteps=12_288",
            "environment.n_envs=8",
            "far={module: rnd, criterion: {name: zscore, threshold: 3}}",
        ),
        _ATARI,
    ),
    "control": Row(
        "control_levels", ("total_timesteps=16_384", "sequence.steps=4_096"), ("visits", "task_matrix", "particles")
    ),
}


def draw(name: str, row: Row) -> None:
    """Train, and keep the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        train(load_config(row.config, ["seed=0", "device=cpu", "torch_threads=1", *row.overrides]), Path(folder))
        figures = load_run(folder).figures  # the matrix of tasks is not among the files
        for picture in row.pictures:
            written = Path(folder) / "exploration" / f"{picture}.png"
            image = Image.open(written) if written.is_file() else Image.fromarray(figure_array(figures[picture]))
            image = image.convert("RGB")
            image.thumbnail((WIDTH, WIDTH))
            image.quantize(128).save(OUT / f"{name}_{picture}.png", optimize=True)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or ROWS:
        draw(name, ROWS[name])
