"""Where is a thing, and how is it turned? Particle filters on SE(3) follow rigid bodies through videos of depth.

Bodies swing and turn in front of a wall; a bar passes in front of them, 5% of the readings are wrong, 3% are
missing. The filters know the bodies' shapes, the camera and the wall, but neither the bar nor how the bodies move:
their dynamics are a random walk. A pixel is a reading with noise, or an outlier.

Conditions, each with N particles:

- ``single-nN``: a bottle, a mug, a bracket and a drill, each in a video of its own (6 dimensions)
- ``wrong-nN``: the same, but the first cloud lies 6 cm off and is turned by 45 degrees
- ``two-nN``, ``three-nN``: several of them in one video, with one joint state (12 and 18 dimensions)

Rows with a body's name are that body alone. Methods: the resampling-free filter in both forms (``rfpf-derived``,
``rfpf-published``), the weighted filter (``weighted``), the bootstrap filter (``bootstrap``), and the ensemble and the
extended Kalman filter (``enkf``, ``ekf``), which are given the pixels that the body should cover, without what hides
it, and no depth further than 4 cm from what they expect. Each method's settings (``SETTINGS``) were chosen on
seed 100, which no result contains, by ``--step``, ``--deviation`` and ``--parts``.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks._depth_camera import Camera, DepthObservation, Scene
from benchmarks._results import legend, method_colors
from benchmarks._rigid_bodies import BODIES, pose_errors, trajectory
from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError
from farl.particles import (
    SE3,
    BootstrapFilter,
    EnsembleKalmanFilter,
    ExtendedKalmanFilter,
    GaussianObservation,
    Manifold,
    Product,
    ResamplingFreeFilter,
    WeightedStateFilter,
    random_walk,
)
from farl.particles.state_space import Observation, StateFilter
from farl.particles.weights import effective_sample_size

CAMERA = Camera()
LENGTH = 0.08  # metres that count as a radian: about the radius of the bodies
MOTION = 0.1  # of the filters' random walk, a frame: 8 mm and 6 degrees
DEVIATION = 0.005  # of the readings, metres
WRONG = 0.05  # share of the readings
MISSING = 0.03
OUTLIERS = 0.15  # what the filters expect: the bar, too
SPREAD = {"right": 0.1, "wrong": 0.5}  # of the first cloud: 8 mm and 6 degrees, or 40 mm and 29 degrees
GATE = 0.04  # metres: no reading counts as further from what the Kalman filters expect
ESS_EVERY = 4  # frames
LOST = 0.3  # of the diameter

METHODS = ("rfpf-derived", "rfpf-published", "weighted", "bootstrap", "enkf", "ekf")
KALMAN = ("enkf", "ekf")
PARTICLES = (50, 100, 250, 1000)
SCENES: dict[str, tuple[tuple[str, ...], ...]] = {
    "single": tuple((name,) for name in BODIES),
    "wrong": tuple((name,) for name in BODIES),
    "two": (("mug", "bracket"),),
    "three": (("mug", "bracket", "drill"),),
}
PLACES = {
    1: [(0.0, 0.0, 0.5)],
    2: [(-0.08, 0.0, 0.5), (0.08, 0.0, 0.56)],
    3: [(-0.13, 0, 0.52), (0, 0, 0.6), (0.13, 0, 0.52)],
}


@dataclass(frozen=True)
class Settings:
    """How a method is run.

    :ivar step: RFPF's gamma over n, the weighted filter's variance, the bootstrap filter's jitter
    :ivar deviation: that a filter takes readings to have, metres; more than they have, for pixels err alike
    :ivar parts: a frame is taken in this many parts, one after another
    """

    step: float = 0.0
    deviation: float = 0.016
    parts: int = 1


SETTINGS = {
    "rfpf-derived": Settings(step=0.003, deviation=0.02, parts=3),
    "rfpf-published": Settings(step=0.003, deviation=0.02, parts=3),
    "weighted": Settings(step=0.003, deviation=0.02, parts=3),
    "bootstrap": Settings(step=0.0001, deviation=0.008),
    "enkf": Settings(deviation=0.008),
    "ekf": Settings(deviation=0.016),
}


def run(job: Job) -> dict[str, Any]:
    """One method on every video of a condition."""
    kind, _, particles = job.condition.partition("-n")
    chosen = {
        name: job.parameters[name] for name in ("step", "deviation", "parts") if job.parameters.get(name) is not None
    }
    settings = Settings(**{**vars(SETTINGS[job.method]), **chosen})
    found = [
        track(job.method, settings, names, int(particles), kind == "wrong", job.parameters["frames"], job.seed)
        for names in SCENES[kind]
    ]
    bodies: dict[str, dict[str, float]] = {name: row for video in found for name, row in video["bodies"].items()}
    row: dict[str, Any] = {metric: mean([body[metric] for body in bodies.values()]) for metric in BODY_METRICS}
    row |= {metric: mean([video[metric] for video in found]) for metric in ("ess", "milliseconds")}
    errors = torch.tensor([curve for video in found for curve in video["curves"]])
    row["curves"] = {"add": {"x": list(range(1, errors.shape[1] + 1)), "y": errors.median(0).values.tolist()}}
    row["bodies"] = bodies
    if job.seed == 0 and kind != "wrong" and int(particles) <= 100:
        row["estimates"] = {
            "+".join(names): video["estimates"] for names, video in zip(SCENES[kind], found, strict=True)
        }
    return row


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True)
class Video:
    """What the camera saw of bodies, and where they were.

    :ivar scene: the bodies without the bar
    :ivar truth: float64[frames, 7 K]
    :ivar pictures: float32[frames, P], NaN where nothing was read
    """

    scene: Scene
    truth: Tensor
    pictures: Tensor


def record(names: Sequence[str], frames: int, seed: int) -> Video:
    """Film bodies."""
    generator = torch.Generator().manual_seed(seed)
    scene = Scene(CAMERA, [BODIES[name] for name in names])
    truth = torch.cat([trajectory(frames, place, generator) for place in PLACES[len(names)]], -1)
    return Video(scene, truth, spoilt(scene.depth(truth), CAMERA, generator))


def bar(camera: Camera, frame: int, frames: int) -> Tensor:
    """Which pixels the bar covers, bool[P]: it passes from left to right in the middle of the video."""
    middle = camera.width * (1.6 * (frame + 0.5) / frames - 0.3)
    column = (torch.arange(camera.width) + 0.5).repeat(camera.height)
    return (column - middle).abs() < camera.width / 14


def spoilt(depth: Tensor, camera: Camera, generator: torch.Generator) -> Tensor:
    """Return depth pictures [frames, P] as the camera gives them: with the bar, noise, wrong and missing readings."""
    draw = partial(torch.rand, depth.shape, generator=generator)
    frames = len(depth)
    covered = torch.stack([bar(camera, frame, frames) for frame in range(frames)])
    seen = depth.where(~covered, torch.tensor(0.3)) + DEVIATION * torch.randn(depth.shape, generator=generator)
    seen = torch.where(draw() < WRONG, draw() * camera.background, seen)
    return torch.where(draw() < MISSING, torch.tensor(math.nan), seen)


def track(
    method: str, settings: Settings, names: Sequence[str], particles: int, wrong: bool, frames: int, seed: int
) -> dict[str, Any]:
    """Follow the bodies of one video and say how far off the estimates were."""
    video = record(names, frames, seed)
    space = SE3(LENGTH) if len(names) == 1 else Product(*(SE3(LENGTH) for _ in names))
    generator = torch.Generator().manual_seed(seed + 1)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    centre = video.truth[0]
    if wrong:
        shift, turn = (torch.nn.functional.normalize(draw(3), dim=0) for _ in range(2))
        centre = space.retract(centre, torch.cat([shift * 0.06 / LENGTH, turn * math.pi / 4]))
    spread = SPREAD["wrong" if wrong else "right"]
    filter_ = build(
        method, space.retract(centre, spread * draw(particles, space.dimension)), space, settings, generator
    )
    dynamics = random_walk(space, MOTION)
    seconds, held, estimates = 0.0, [], []
    for frame, picture in enumerate(video.pictures):
        began = time.process_time()
        if frame:
            filter_.predict(dynamics)
        seconds += time.process_time() - began
        if frame % ESS_EVERY == 0:
            weights = filter_.log_weights - likelihood(video.scene, picture, settings).loss(filter_.particles)
            held.append(float(effective_sample_size(weights)) / particles)
        began = time.process_time()
        for _ in range(settings.parts):
            filter_.update(observe(method, video.scene, picture, settings, filter_))
        estimates.append(filter_.moments()[0])
        seconds += time.process_time() - began
    bodies, curves = {}, []
    for body, name in enumerate(names):
        place = slice(7 * body, 7 * body + 7)
        errors = [pose_errors(name, e[place], t[place]) for e, t in zip(estimates, video.truth, strict=True)]
        curves.append([error["add"] for error in errors])
        late = errors[len(errors) // 4 :]  # a wrong start may take some frames
        row = {metric: mean([error[metric] for error in late]) for metric in ("add", "rotation", "translation")}
        bodies[name] = row | {
            "accurate": mean([float(error["add"] < 0.1) for error in late]),
            "lost": float(mean(curves[-1][-5:]) > LOST),
        }
    return {
        "bodies": bodies,
        "curves": curves,
        "ess": mean(held),
        "milliseconds": 1000 * seconds / frames,
        "estimates": [[round(float(value), 5) for value in estimate] for estimate in estimates],
    }


def build(
    method: str, particles: Tensor, space: Manifold, settings: Settings, generator: torch.Generator
) -> StateFilter:
    """The filter by its name."""
    makers: dict[str, Callable[..., StateFilter]] = {
        "rfpf-derived": partial(ResamplingFreeFilter, gamma=settings.step * particles.shape[-2], form="derived"),
        "rfpf-published": partial(ResamplingFreeFilter, gamma=settings.step * particles.shape[-2], form="published"),
        "weighted": partial(WeightedStateFilter, variance=settings.step),
        "bootstrap": partial(BootstrapFilter, jitter=settings.step),
        "enkf": EnsembleKalmanFilter,
        "ekf": ExtendedKalmanFilter,
    }
    return makers[method](particles, generator, impossible="keep", manifold=space)


def observe(method: str, scene: Scene, picture: Tensor, settings: Settings, filter_: StateFilter) -> Observation:
    """What a method is told of a picture."""
    if method not in KALMAN:
        return likelihood(scene, picture, settings, 1 / settings.parts)
    middle = filter_.moments()[0][None]
    expected = scene.depth(middle)[0]
    often = (scene.visible(filter_.particles if method == "enkf" else middle) >= 0).double().mean(0)
    hidden = picture < expected.amin() - GATE  # by something nearer than the bodies
    chosen = ((often > 0.1) & ~hidden & picture.isfinite()).nonzero().flatten()
    if not len(chosen):  # nothing of it is seen: a picture of one missing reading
        chosen, picture = chosen.new_zeros(1), torch.full_like(picture, math.nan)
    low, high = expected[chosen] - GATE, expected[chosen] + GATE
    return GaussianObservation(
        lambda some: scene.depth(some, contrast=GATE)[..., chosen].clamp(low, high).to(some.dtype),
        picture[chosen].clamp(low, high).double(),
        settings.deviation**2 * settings.parts * torch.eye(len(chosen), dtype=torch.float64),
    )


def likelihood(scene: Scene, picture: Tensor, settings: Settings, power: float = 1.0) -> DepthObservation:
    """How likely a picture is."""
    return DepthObservation(scene, picture, settings.deviation, OUTLIERS, power)


def derive(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each body alone."""
    return [
        {"method": row["method"], "condition": f"{name}: {row['condition']}", "seed": row["seed"], **values}
        for row in rows
        for name, values in row.get("bodies", {}).items()
        if row["condition"].startswith(("single", "wrong"))
    ]


def plots(document: Mapping[str, Any]) -> Mapping[str, Figure]:
    """Each metric over the number of particles, a panel for each kind of scene."""
    return {metric: lines(document, metric) for metric in document["metrics"]}


def lines(document: Mapping[str, Any], metric: str) -> Figure:
    """The mean of a metric with its interval, one line a method."""
    colors = method_colors(document)
    figure = Figure(figsize=(1.8 + 2.6 * len(SCENES), 3.4), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(SCENES), sharey=True), SCENES, strict=True):
        for index, method in enumerate(colors):
            cells = {n: document["summary"].get(method, {}).get(f"{kind}-n{n}", {}).get(metric) for n in PARTICLES}
            found = {n * 1.04**index: cell for n, cell in cells.items() if cell is not None}
            ends = [[cell["mean"] - cell["low"], cell["high"] - cell["mean"]] for cell in found.values()]
            if found:
                axes.errorbar(
                    list(found),
                    [cell["mean"] for cell in found.values()],
                    torch.tensor(ends).T.clamp_min(0),
                    capsize=2,
                    color=colors[method],
                    label=method,
                )
        axes.set_xscale("log")
        axes.set_xticks(PARTICLES, [str(n) for n in PARTICLES])
        axes.minorticks_off()
        axes.set_xlabel("particles")
        axes.set_title(KINDS[kind], fontsize="medium")
    figure.axes[0].set_ylabel(metric)
    legend(figure)
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings other than the chosen ones, for choosing them."""
    parser.add_argument("--frames", type=int, metavar="N", help="frames of each video")
    parser.add_argument("--step", type=float, help="step size of the methods, instead of SETTINGS")
    parser.add_argument("--deviation", type=float, help="assumed noise of readings in metres, instead of SETTINGS")
    parser.add_argument("--parts", type=int, help="parts in which a frame is taken, instead of SETTINGS")


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for.

    :raises ConfigError: for numbers that make no sense
    """
    given = {name: getattr(options, name) for name in ("frames", "step", "deviation", "parts")}
    given = {name: value for name, value in given.items() if value is not None}
    problems = [f"--{name} {value}: must be above 0" for name, value in given.items() if not 0 < value < math.inf]
    if 0 < given.get("frames", MIN_FRAMES) < MIN_FRAMES:
        problems.append(
            f"--frames {given['frames']}: at least {MIN_FRAMES}, whose last five say whether a body is lost"
        )
    if problems:
        raise ConfigError(*problems)
    return given


MIN_FRAMES = 8
KINDS = {
    "single": "one body, 6 dimensions",
    "wrong": "one body, wrong start",
    "two": "two bodies, 12 dimensions",
    "three": "three bodies, 18 dimensions",
}
BODY_METRICS = {
    "add": "mean distance of the body's points from where they are, of the diameter (ADD, of the bottle ADD-S)",
    "rotation": "error of the rotation in degrees; of the bottle that of its axis",
    "translation": "error of the translation in mm",
    "accurate": "share of frames with an ADD below a tenth of the diameter",
    "lost": f"share of bodies that are lost at the end: ADD above {LOST} diameters in the last five frames",
}
BENCHMARK = Benchmark(
    name="pose_tracking",
    methods=METHODS,
    conditions=tuple(f"{kind}-n{n}" for kind in SCENES for n in PARTICLES),
    metrics=BODY_METRICS
    | {
        "ess": "effective sample size of the predicted cloud under the next frame, as a share of the particles",
        "milliseconds": "processor time a frame",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1, parameters={"frames": 10}, note="ten frames", conditions=("single-n50", "wrong-n50", "two-n50")
        ),
        "default": Size(seeds=5, parameters={"frames": 25}, note="25 frames"),
        "full": Size(seeds=20, parameters={"frames": 40}),
    },
    plot=plots,
    derive=derive,
    add_arguments=add_arguments,
    parameters=parameters,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
