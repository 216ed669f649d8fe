"""Levels of a control task in sequence: collecting whole episodes for many learners at once, and what is measured."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks._defences import Defence, dormant_units
from benchmarks._stacked_ppo import Rollout, StackedPPO, advantages_and_returns
from farl.envs.control_tasks import TASKS, Dynamics, level_offset

EPISODES, MAX_STEPS, REWARD_SCALE = 2, 400, 20.0
THRESHOLDS = {"CartPole": 100.0, "Acrobot": -200.0, "LunarLander": -100.0}
"""Return that counts as having learnt a level, above what a random policy reaches."""
_OFFSETS_SEED = 2024

Floats = npt.NDArray[np.float64]


@dataclass
class Episodes:
    """``episodes`` episodes of each of R learners in one level."""

    rollout: Rollout
    returns: Floats
    """Raw, [R, episodes]."""


class Collector:
    """Plays whole episodes with R learners, all in step.

    :param task: one of ``TASKS``
    :param seeds: the learners' seeds
    :param episodes: played at once with each
    """

    def __init__(self, task: str, seeds: Sequence[int], episodes: int = EPISODES) -> None:
        self.learners, self.episodes = len(seeds), episodes
        self.dynamics: Dynamics = TASKS[task](self.learners * episodes)
        self.rngs = [np.random.default_rng([seed, e]) for seed in seeds for e in range(episodes)]

    def play(
        self,
        learner: StackedPPO,
        offsets: npt.NDArray[np.float32],
        max_steps: int = MAX_STEPS,
        greedy: bool = False,
    ) -> Episodes:
        """Play episodes whose observations are moved by ``offsets`` [R, size]."""
        count, size = self.learners * self.episodes, self.dynamics.size
        everyone = np.arange(count)
        shift = np.repeat(offsets, self.episodes, 0)
        self.dynamics.reset(everyone, self.rngs)
        seen = np.zeros((max_steps + 1, count, size), np.float32)
        actions = np.zeros((max_steps, count), np.int64)
        log_prob = np.zeros((max_steps, count), np.float32)
        rewards = np.zeros((max_steps, count))
        lengths = np.zeros(count, np.int64)
        terminated = np.zeros(count, bool)
        alive = everyone
        actors = learner.actors(self.episodes, max_steps)
        for t in range(max_steps):
            seen[t] = self.dynamics.observe() + shift
            observations = torch.from_numpy(seen[t]).view(self.learners, self.episodes, size)
            chosen, chance = actors(observations, t, greedy)
            actions[t], log_prob[t] = chosen.view(-1).numpy(), chance.view(-1).numpy()
            paid, ended = self.dynamics.step(actions[t])  # of all; what ended goes on unseen
            rewards[t, alive], terminated[alive] = paid[alive], ended[alive]
            lengths[alive] += 1
            seen[t + 1, alive] = self.dynamics.observe()[alive] + shift[alive]
            alive = alive[~terminated[alive]]
            if not len(alive):
                break
        steps = int(lengths.max())

        def arrange(array: npt.NDArray[Any], length: int = steps) -> Tensor:
            """[T, R episodes, ...] to [R, episodes, T, ...]."""
            tensor = torch.from_numpy(array[:length]).movedim(0, 1)
            return tensor.reshape(self.learners, self.episodes, *tensor.shape[1:])

        everything = arrange(seen, steps + 1)
        values = learner.values(everything.flatten(1, 2)).view(self.learners, self.episodes, steps + 1)
        held = torch.from_numpy(lengths).view(self.learners, self.episodes)
        last = values.gather(-1, held[..., None])[..., 0]
        last[torch.from_numpy(terminated).view_as(held)] = 0.0
        settings = learner.settings
        advantages, returns = advantages_and_returns(
            arrange((rewards / REWARD_SCALE).astype(np.float32)),
            values[..., :-1].clone(),
            last,
            held,
            settings.gamma,
            settings.gae_lambda,
        )
        inside = (torch.arange(steps) < held[..., None]).flatten(1)
        # Steps that were taken come first in each row.
        order = (~inside).long().argsort(dim=1, stable=True)[:, : int(inside.sum(1).max())]
        parts = [arrange(actions), arrange(log_prob), advantages, returns]
        rollout = Rollout(
            everything[:, :, :-1].flatten(1, 2).gather(1, order[..., None].expand(-1, -1, size)),
            *(part.flatten(1).gather(1, order) for part in parts),
            lengths=inside.sum(1).numpy(),
        )
        return Episodes(rollout, rewards.sum(0).reshape(self.learners, self.episodes))


def level_offsets(task: str, seeds: Sequence[int], levels: int) -> npt.NDArray[np.float32]:
    """Return the offsets [levels, R, size]: none in the first level; the others in an order of each seed's own."""
    size = TASKS[task].size
    known = np.stack([level_offset(size, level, _OFFSETS_SEED) for level in range(levels)])
    orders = [[0, *(1 + np.random.default_rng(seed).permutation(levels - 1))] for seed in seeds]
    return known[np.array(orders, np.int64).T]


def run_levels(
    task: str,
    seeds: Sequence[int],
    make: Callable[[int, int, Sequence[int]], StackedPPO],
    defence: Defence,
    levels: int,
    iterations: int,
) -> list[dict[str, Any]]:
    """Take learners through all levels, and return what is measured of each.

    :param make: makes the learners, given the size of an observation, the number of actions, and the seeds
    """
    began = time.perf_counter()
    dynamics = TASKS[task]
    learner = make(dynamics.size, dynamics.n_actions, seeds)
    defence.attach(learner)
    collector = Collector(task, seeds)
    offsets = level_offsets(task, seeds, levels)
    returns = np.zeros((len(seeds), levels, iterations))
    steps = np.zeros(len(seeds), np.int64)
    sizes, dormant = [], []
    for level in range(levels):
        for iteration in range(iterations):
            episodes = collector.play(learner, offsets[level])
            learner.learn(episodes.rollout, defence.adjust, defence.extra)
            defence.after_iteration(episodes.rollout)
            returns[:, level, iteration] = episodes.returns.mean(1)
            steps += episodes.rollout.lengths
        defence.end_level(episodes.rollout)
        sizes.append(learner.weights.effective_sample_size().numpy())
        units = torch.cat(dormant_units(learner, episodes.rollout), 1).float().mean(1)
        dormant.append(units.view(len(seeds), -1).mean(1).numpy())
    seconds = time.perf_counter() - began
    judge = Collector(task, [seed + 10_000 for seed in seeds], 5)
    earlier = np.stack([judge.play(learner, offsets[level]).returns.mean(1) for level in range(levels - 1)], 1)
    return [
        {
            "mean_return": float(returns[r].mean()),
            "later_return": float(returns[r, 1:].mean()),
            "earlier_return": float(earlier[r].mean()),
            "iterations_to_threshold": time_to_threshold(returns[r], THRESHOLDS[task]),
            "dormant": float(dormant[-1][r]),
            "ess": float(np.mean(sizes, 0)[r]),
            "steps": int(steps[r]),
            "seconds": seconds / len(seeds),
            "curves": {"return": smoothed(returns[r].reshape(-1))},
        }
        for r in range(len(seeds))
    ]


def smoothed(returns: Floats, points: int = 200) -> dict[str, list[float]]:
    """Return the means of equal stretches of a curve [iterations]: at most ``points`` of them."""
    width = -(-len(returns) // points)
    ends = np.arange(width, len(returns) + 1, width)
    means = returns[: ends[-1]].reshape(-1, width).mean(1)
    return {"x": [float(end) for end in ends], "y": np.round(means, 2).tolist()}


def time_to_threshold(returns: Floats, threshold: float, window: int = 5) -> float:
    """Return the mean over later levels of the iteration at which the mean of ``window`` first reached ``threshold``.

    A level that never reached it counts with all its iterations. ``returns`` is [levels, iterations].
    """
    width = min(window, returns.shape[1])
    smooth = np.lib.stride_tricks.sliding_window_view(returns[1:], width, axis=1).mean(-1)
    reached = smooth >= threshold
    first = np.where(reached.any(1), reached.argmax(1) + width, returns.shape[1])
    return float(first.mean())
