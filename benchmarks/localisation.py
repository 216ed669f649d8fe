"""Where is a state that was never seen itself? The particle filters on two estimation tasks with known posteriors.

Conditions ``mM-nN``: the linear task of the resampling-free filter's paper (arXiv 2404.13698) in M dimensions with N
particles. A state u ~ N(0, I) is seen through x . u with a new x ~ N(0, I) at each of 50 steps. Metric ``kl``: the
divergence of the Gaussian with the particles' moments from the exact posterior; ``kl_expected`` from the posterior
with expected precision, (t + 1) I, and mean u t / (t + 1), which the public code measures by.

Conditions ``mirror-nN``: in three dimensions, the first coordinate is seen only through its square, the others
directly, for 20 steps: the posterior has two modes, mirror images of each other. Metric ``energy_distance`` between
the weighted particles and draws from the exact posterior, and ``lesser_mode``, the mass on the side with less of it
(exactly one half of the posterior's).

Methods: Monte Carlo localisation (``mcl``), the bootstrap filter with systematic resampling (``bootstrap``), the
resampling-free filter in its derived and published form (``rfpf-derived``, ``rfpf-published``), the ensemble Kalman
filter (``enkf``), and the mixture transform filter (``mixture-transform``).
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks._results import legend
from benchmarks.harness import Benchmark, Job, Size, main
from farl.particles.kalman import EnsembleKalmanFilter
from farl.particles.mixture_transform import MixtureTransformFilter
from farl.particles.resampling_free import ResamplingFreeFilter
from farl.particles.state_space import BootstrapFilter, GaussianObservation, MonteCarloLocalisation, StateFilter
from farl.particles.weights import ImpossibleEvidenceError

STEPS = 50
MIRROR_STEPS = 20
MIRROR_NOISE = 0.5  # standard deviation of the square of the first coordinate
SIDE_NOISE = 1.0
METHODS: dict[str, Callable[[Tensor, torch.Generator], StateFilter]] = {
    "mcl": MonteCarloLocalisation,
    "bootstrap": partial(BootstrapFilter, jitter=0.1),
    "rfpf-derived": partial(ResamplingFreeFilter, form="derived"),
    "rfpf-published": partial(ResamplingFreeFilter, form="published"),
    "enkf": EnsembleKalmanFilter,
    "mixture-transform": MixtureTransformFilter,
}
LINEAR = tuple(f"m{m}-n{n}" for m in range(3, 11) for n in (20, 50, 100))
KL = ("kl", "kl_expected")
MIRROR = tuple(f"mirror-n{n}" for n in (50, 100, 200))


def run(job: Job) -> dict[str, Any]:
    task, _, particles = job.condition.partition("-n")
    trial = mirror if task == "mirror" else partial(linear, dimension=int(task.removeprefix("m")))
    return trial(METHODS[job.method], particles=int(particles), trials=job.parameters["trials"], seed=job.seed)


def divergence(moments: tuple[Tensor, Tensor], mean: Tensor, precision: Tensor) -> Tensor:
    """KL(N(moments) || N(mean, precision^-1)) in nats, for [trials, ...]."""
    found, covariance = moments
    product = precision @ covariance
    error = found - mean
    trace = product.diagonal(dim1=-2, dim2=-1).sum(-1)
    distance = (error[:, None] @ precision @ error[..., None])[:, 0, 0]
    return (trace - found.shape[-1] - torch.linalg.slogdet(product).logabsdet + distance) / 2


def linear(
    method: Callable[[Tensor, torch.Generator], StateFilter], dimension: int, particles: int, trials: int, seed: int
) -> dict[str, Any]:
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    state = draw(trials, dimension)
    filter_ = method(draw(trials, particles, dimension), torch.Generator().manual_seed(seed + 1))
    identity = torch.eye(dimension, dtype=torch.float64)
    precision, moment = identity.repeat(trials, 1, 1), torch.zeros_like(state)
    curve = []
    for _ in range(STEPS):
        x = draw(trials, dimension)
        # The observation is noiseless, as in the paper; the filters assume a variance of one.
        value = (x * state).sum(-1, keepdim=True)
        seen = GaussianObservation(partial(_project, x), value, torch.eye(1, dtype=torch.float64))
        filter_.update(seen)
        precision = precision + x[:, :, None] * x[:, None, :]
        moment = moment + x * value
        mean = torch.linalg.solve(precision, moment[..., None])[..., 0]
        curve.append(float(divergence(filter_.moments(), mean, precision).mean()))
    expected = divergence(filter_.moments(), state * STEPS / (STEPS + 1), (STEPS + 1) * identity.expand_as(precision))
    steps = list(range(1, STEPS + 1))
    return {
        "kl": curve[-1],
        "kl_expected": float(expected.mean()),
        "curves": {"kl": {"x": steps, "y": [min(value, 1e6) for value in curve]}},
    }


def _project(x: Tensor, states: Tensor) -> Tensor:
    return (states * x[:, None]).sum(-1, keepdim=True)


def _square_first(states: Tensor) -> Tensor:
    return torch.cat([states[..., :1] ** 2, states[..., 1:]], -1)


def mirror(
    method: Callable[[Tensor, torch.Generator], StateFilter], particles: int, trials: int, seed: int
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    state = draw(trials, 3)
    filter_ = method(draw(trials, particles, 3), torch.Generator().manual_seed(seed + 1))
    scale = torch.tensor([MIRROR_NOISE, SIDE_NOISE, SIDE_NOISE], dtype=torch.float64)
    values = []
    for _ in range(MIRROR_STEPS):
        values.append(_square_first(state) + scale * draw(trials, 3))
        try:
            filter_.update(GaussianObservation(_square_first, values[-1], torch.diag(scale**2)))
        except ImpossibleEvidenceError:  # the particles have run away
            return {"diverged": True}
    exact = mirror_posterior(torch.stack(values), 2000, generator)
    weights = filter_.log_weights.exp()
    positive = (weights * (filter_.particles[..., 0] > 0)).sum(-1)
    row: dict[str, Any] = {
        "energy_distance": float(energy_distance(filter_.particles, weights, exact).mean()),
        "lesser_mode": float(torch.minimum(positive, 1 - positive).mean()),
    }
    if seed == 0 and particles == 100:  # for the figure
        row["particles"] = rounded(filter_.particles[0])
        row["particle_weights"] = rounded(weights[0])
        row["posterior"] = rounded(exact[0, :500])
    return row


def rounded(value: Tensor) -> Any:
    return value.mul(1000).round().div(1000).tolist()


def mirror_posterior(values: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Draw [trials, draws, 3] from the exact posterior, given observations [steps, trials, 3]."""
    steps, trials, _ = values.shape
    grid = torch.linspace(-5, 5, 20_001, dtype=torch.float64)
    total, squares = values[..., 0].sum(0)[:, None], grid**2
    # sum over steps of (y - x^2)^2, up to a constant
    log_density = -(grid**2) / 2 - (steps * squares**2 - 2 * total * squares) / (2 * MIRROR_NOISE**2)
    first = grid[torch.multinomial(log_density.softmax(-1), draws, replacement=True, generator=generator)]
    precision = 1 + steps / SIDE_NOISE**2
    mean = values[..., 1:].sum(0) / SIDE_NOISE**2 / precision
    noise = torch.randn(trials, draws, 2, generator=generator, dtype=torch.float64)
    return torch.cat([first[..., None], mean[:, None] + noise / precision**0.5], -1)


def energy_distance(particles: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| for weighted particles X and draws Y, [trials]."""
    across = torch.einsum("tn,tnd->t", weights, torch.cdist(particles, draws)) / draws.shape[1]
    within = torch.einsum("tn,tnk,tk->t", weights, torch.cdist(particles, particles), weights)
    return 2 * across - within - torch.cdist(draws, draws).mean((1, 2))


LINES: dict[str, dict[str, dict[int, str]]] = {
    **{kl: {f"{n} particles": {m: f"m{m}-n{n}" for m in range(3, 11)} for n in (20, 50, 100)} for kl in KL},
    **{
        metric: {"mirror": {n: f"mirror-n{n}" for n in (50, 100, 200)}} for metric in ("energy_distance", "lesser_mode")
    },
}
"""Of each metric's figure the panels, and in each the condition at every place of the horizontal axis."""


def plots(document: Mapping[str, Any]) -> Mapping[str, Figure]:
    """Each metric over dimensions or particles, KL over time in one panel a dimension, and the mirror task's clouds."""
    figures = {metric: lines(document, metric) for metric in LINES}
    curves = [row for row in document["rows"] if "curves" in row]
    if curves:
        figures["kl_over_time"] = kl_over_time(curves)
    clouds = {
        row["method"]: row for row in document["rows"] if row["condition"] == "mirror-n100" and "particles" in row
    }
    if clouds:
        figures["mirror"] = clouds_figure(clouds)
    return figures


def lines(document: Mapping[str, Any], metric: str) -> Figure:
    """The mean of a metric with its interval, one line a method."""
    panels = LINES[metric]
    figure = Figure(figsize=(1.8 + 3.4 * len(panels), 3.6), layout="constrained")
    for axes, (title, places) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels.items(), strict=True
    ):
        for index, method in enumerate(METHODS):
            cells = {x: document["summary"].get(method, {}).get(c, {}).get(metric) for x, c in places.items()}
            found = {x: cell for x, cell in cells.items() if cell is not None}
            mean = [cell["mean"] for cell in found.values()]
            ends = [[cell["mean"] - cell["low"], cell["high"] - cell["mean"]] for cell in found.values()]
            if found:
                axes.errorbar(
                    list(found), mean, torch.tensor(ends).T.clamp_min(0), capsize=2, color=f"C{index}", label=method
                )
        axes.set_title(title)
        axes.set_xticks(list(places))
        axes.set_xlabel("dimensions" if metric in KL else "particles")
        if metric in KL:
            axes.set_yscale("log")
    figure.axes[0].set_ylabel(metric)
    legend(figure)
    return figure


def kl_over_time(rows: list[Mapping[str, Any]]) -> Figure:
    conditions = [c for c in ("m3-n100", "m5-n100", "m8-n100", "m10-n100") if any(r["condition"] == c for r in rows)]
    conditions = conditions or sorted({row["condition"] for row in rows})[:4]
    figure = Figure(figsize=(1.8 + 3.4 * len(conditions), 3.6), layout="constrained")
    for axes, condition in zip(figure.subplots(1, len(conditions), squeeze=False)[0], conditions, strict=True):
        for method in METHODS:
            found = [r["curves"]["kl"] for r in rows if r["method"] == method and r["condition"] == condition]
            if found:
                # A trial whose particles fall together at one step has no finite divergence there: hence no mean.
                median = torch.tensor([curve["y"] for curve in found]).median(0).values
                axes.plot(found[0]["x"], median, label=method)
        axes.set_yscale("log")
        axes.set_title(condition)
        axes.set_xlabel("observations")
    figure.axes[0].set_ylabel("KL to the exact posterior (nats), median of seeds", fontsize="small")
    legend(figure)
    return figure


def clouds_figure(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(2.6 * len(rows), 3.0), layout="constrained")
    for axes, (method, row) in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows.items(), strict=True):
        exact, cloud = torch.tensor(row["posterior"]), torch.tensor(row["particles"])
        axes.scatter(exact[:, 0], exact[:, 1], s=2, color="0.75", label="exact posterior")
        size = 20 * torch.tensor(row["particle_weights"]) * len(cloud)
        axes.scatter(cloud[:, 0], cloud[:, 1], s=size.clamp_max(200), color="#0072B2", alpha=0.5, label="particles")
        axes.set_xlim(-4, 4)
        axes.set_ylim(-3, 3)
        axes.set_title(method, fontsize="medium")
        axes.set_xlabel("first coordinate (its square is seen)", fontsize="x-small")
    figure.axes[0].legend(fontsize="x-small")
    return figure


BENCHMARK = Benchmark(
    name="localisation",
    methods=tuple(METHODS),
    conditions=LINEAR + MIRROR,
    metrics={
        "kl": "KL of the particles' Gaussian from the exact posterior after 50 steps, in nats",
        "kl_expected": "the same from the expected posterior, as the public code measures, in nats",
        "energy_distance": "energy distance from the exact posterior (mirror task)",
        "lesser_mode": "mass on the side with less of it; one half is right (mirror task)",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"trials": 4},
            note="four trials, four conditions",
            conditions=("m3-n20", "m3-n100", "m10-n100", "mirror-n100"),
        ),
        "default": Size(seeds=5, parameters={"trials": 20}, note="100 trials instead of 400"),
        "full": Size(seeds=20, parameters={"trials": 20}),
    },
    plot=plots,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
