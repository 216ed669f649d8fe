"""Where particles start: a shared initialisation plus noise, or independent initialisations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from farl.errors import ConfigError

Initialisation = Literal["noise", "independent"]


def particle_seed(seed: int, particle: int, stream: int = 0) -> int:
    """Return the random seed of one particle: it depends on its number alone, not on who holds it."""
    return int(np.random.SeedSequence([seed, particle, stream]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def reinitialise(module: nn.Module, seed: int) -> nn.Module:
    """Return a copy of ``module`` with every layer's own initialisation drawn anew from ``seed``.

    :raises ConfigError: if a layer holds parameters but has no ``reset_parameters``
    """
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, layer in fresh.named_modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
            elif next(layer.parameters(recurse=False), None) is not None:
                raise ConfigError(
                    f"cannot draw independent initialisations: {name or 'the module'} ({type(layer).__name__}) holds "
                    "parameters but has no reset_parameters(); add one, or use init='noise'"
                )
    return fresh


def draw_particles(
    module: nn.Module,
    particles: Sequence[int],
    init: Initialisation = "noise",
    noise_scale: tuple[float, float] = (0.001, 0.04),
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw the initial particles numbered ``particles``.

    ``"noise"`` adds Gaussian noise to the module's own parameters, with a standard deviation drawn uniformly from
    ``noise_scale`` for every particle and tensor (the published initialisation of WPF, arXiv 2410.22695);
    ``"independent"`` initialises every layer anew for each particle.

    :return: parameters and buffers by name, stacked along a new first axis of length ``len(particles)``
    :raises ConfigError: if ``init`` is unknown, or a layer cannot be initialised anew
    """
    if init not in ("noise", "independent"):
        raise ConfigError(f"init must be 'noise' or 'independent', got {init!r}")
    if not 0 <= noise_scale[0] <= noise_scale[1] < float("inf"):
        raise ConfigError(f"noise_scale is a range (low, high) of standard deviations from 0 up, got {noise_scale}")
    if init == "independent":
        copies = [reinitialise(module, particle_seed(seed, particle)) for particle in particles]
        parameters = {
            name: torch.stack([dict(m.named_parameters())[name].detach() for m in copies])
            for name, _ in module.named_parameters()
        }
        buffers = {
            name: torch.stack([dict(m.named_buffers())[name] for m in copies]) for name, _ in module.named_buffers()
        }
        return parameters, buffers
    parameters = {name: _repeat(value, len(particles)) for name, value in module.named_parameters()}
    for row, particle in enumerate(particles):
        generator = torch.Generator().manual_seed(particle_seed(seed, particle))
        for value in parameters.values():
            low, high = noise_scale
            scale = low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64)
            noise = torch.randn(value.shape[1:], generator=generator, dtype=torch.float64)
            value[row] += (scale * noise).to(value)
    return parameters, {name: _repeat(value, len(particles)) for name, value in module.named_buffers()}


def _repeat(value: Tensor, times: int) -> Tensor:
    return value.detach().unsqueeze(0).repeat(times, *(1,) * value.dim())
