"""``python -m benchmarks._pose_video RESULTS OUT.gif``: what the camera saw, with the outlines of what was believed.

RESULTS is a ``results.json`` of ``pose_tracking``, whose runs of seed 0 with at most 100 particles hold their
estimates. Beside the film a picture of some of its frames is written, OUT.png.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks._depth_camera import Scene
from benchmarks._results import read_results
from benchmarks._rigid_bodies import BODIES
from benchmarks.pose_tracking import CAMERA, record
from farl.errors import ConfigError

FINER = 6  # pixels of the drawing for one of the camera's
SHOWN = ("rfpf-derived", "weighted", "bootstrap", "enkf")
PICTURES = 4


def estimates(document: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The bodies of the video with the most of them, and each method's estimates, float64[frames, 7 K].

    :raises ConfigError: if no run holds any
    """
    found: dict[str, dict[str, Tensor]] = {}
    for row in document["rows"]:
        for bodies, poses in row.get("estimates", {}).items():
            found.setdefault(bodies, {})[row["method"]] = torch.tensor(poses, dtype=torch.float64)
    if not found:
        raise ConfigError("no run holds estimates: run pose_tracking with seed 0 and at most 100 particles")
    most = max(found, key=lambda bodies: bodies.count("+"))
    return tuple(most.split("+")), found[most]


def draw(figure: Figure, frames: Sequence[int], bodies: Sequence[str], believed: Mapping[str, Tensor]) -> None:
    """Draw frames as columns and methods as rows."""
    total = len(next(iter(believed.values())))
    video, camera = record(bodies, total, 0), CAMERA.larger(FINER)
    fine = Scene(camera, [BODIES[name] for name in bodies])
    panels = figure.subplots(len(believed), len(frames), squeeze=False)
    for line, (method, poses) in enumerate(believed.items()):
        for column, frame in enumerate(frames):
            axes = panels[line][column]
            seen = video.pictures[frame].reshape(CAMERA.height, CAMERA.width).clamp(0.25, 1.0)
            shades = colormaps["gray_r"].with_extremes(bad="#f2d7d5")
            extent = (0, camera.width, camera.height, 0)
            axes.imshow(np.ma.masked_invalid(seen), cmap=shades, vmin=0.2, vmax=1.1, extent=extent)
            for source, color in ((video.truth[frame], "#009E73"), (poses[frame], "#D55E00")):
                for index in range(len(bodies)):
                    one = Scene(camera, [fine.meshes[index]])
                    shape = (one.visible(source[7 * index : 7 * index + 7][None])[0] >= 0).float()
                    axes.contour(shape.reshape(camera.height, camera.width), [0.5], colors=color, linewidths=1.2)
            axes.set_xticks([])
            axes.set_yticks([])
            if line == 0:
                axes.set_title(f"frame {frame + 1}", fontsize="small")
            if column == 0:
                axes.set_ylabel(method, fontsize="small")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the film and the picture; returns 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._pose_video", description=__doc__)
    parser.add_argument("results", type=Path, help="results.json of pose_tracking")
    parser.add_argument("out", type=Path, help="OUT.gif; OUT.png is written beside it")
    options = parser.parse_args(arguments)
    try:
        bodies, believed = estimates(read_results(options.results))
    except (ConfigError, OSError, ValueError, LookupError) as error:
        print(f"error: {options.results}: {error}", file=sys.stderr)
        return 2
    believed = {method: believed[method] for method in SHOWN if method in believed}
    total = len(next(iter(believed.values())))
    chosen = np.linspace(0, total - 1, PICTURES).round().astype(int).tolist()
    figure = Figure(figsize=(2.1 * PICTURES, 1.65 * len(believed)), layout="constrained", dpi=80)
    draw(figure, chosen, bodies, believed)
    figure.savefig(options.out.with_suffix(".png"))
    film = []
    for frame in range(total):
        figure = Figure(figsize=(2.6, 2.0 * len(believed)), layout="constrained", dpi=80)
        draw(figure, [frame], bodies, believed)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        film.append(np.asarray(canvas.buffer_rgba())[..., :3])
    imageio.imwrite(options.out, np.stack(film), duration=200, loop=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
