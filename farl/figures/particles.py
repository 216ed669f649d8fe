"""Particles over time: their weights, how many of them count, and what each earns."""

import numpy as np
from matplotlib.figure import Figure

from farl.exploration.colors import COLORS, OTHERS
from farl.exploration.records import Particles
from farl.figures.canvas import HEAD, add_axes, legend_below, new_figure, timesteps_axis, title
from farl.figures.palette import INK, MUTED

__all__ = ["particle_weights"]


def particle_weights(particles: Particles) -> Figure:
    """Draw the weights stacked, the effective sample size, and the return of each particle."""
    n = particles.weights.shape[1]
    figure = new_figure(6.0, HEAD + 4.1)
    size = particles.effective_sample_size
    latest = f"effective sample size {size[-1]:.2f} of {n}" if len(size) else ""
    title(figure, (0.1, 0.0, 5.8, HEAD + 4.1), "Particles", latest)
    steps = particles.steps.astype(float)
    first, last = (float(steps[0]), float(steps[-1])) if len(steps) else (0.0, 1.0)
    order = np.argsort(-particles.weights.sum(axis=0), kind="stable")
    palette = {int(i): COLORS[rank] if rank < len(COLORS) else OTHERS for rank, i in enumerate(order)}
    kinds = ("weight", "effective\nsample size", "return")
    for row, kind in enumerate(kinds):
        axes = add_axes(figure, (0.75, 0.75 + (2 - row) * 1.14, 5.05, 0.98))
        if row == 0 and len(steps):
            axes.stackplot(
                steps, particles.weights.T, colors=[palette[i] for i in range(n)], linewidth=0.3, edgecolor="white"
            )
            axes.set_ylim(0, 1)
        elif row == 1:
            axes.plot(steps, size, color=INK, linewidth=1.3)
            axes.set_ylim(0, n * 1.05)
        else:
            for i in range(n):
                axes.plot(steps, particles.returns[:, i], color=palette[i], linewidth=1.4)
        timesteps_axis(axes, first, last)
        if row < 2:
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
        axes.set_ylabel(kind, fontsize=9, color=INK)
        axes.tick_params(labelsize=8.5, colors=MUTED)
        if row == 2 and n <= len(COLORS):
            foot = add_axes(figure, (0.1, 0.3, 5.8, 0.01))
            foot.axis("off")
            lines = [axes.plot([], [], color=palette[i], linewidth=3, label=str(i))[0] for i in range(n)]
            legend_below(foot, lines)
    return figure
