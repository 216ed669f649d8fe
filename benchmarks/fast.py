"""How much less time ``Fast`` takes: CPU time of learning, over that of Stable-Baselines3's own algorithm.

- ``fast``: ``Fast(PPO)``
- ``far``: ``FAR(PPO)`` as it comes; ``far-fast``: ``FAR(Fast(PPO))``; ``far-error-fast``: the same, paid by RND's
  error; ``far-shared-fast``: as it comes, but that the policy's critic learns the sum of both rewards
- ``recurrent-fast``: ``Fast(RecurrentPPO)``, over ``RecurrentPPO``
- ``sbx``: PPO of sbx, in JAX, where it is installed; ``cleanrl``: CleanRL's script, where the variable ``CLEANRL_PPO``
  says where its ``ppo.py`` is, with the environment's own vector of copies (``cartpole`` alone)

Each job builds the plain algorithm and the other one in one process and lets them learn in turns, a few rollouts each;
the medians of their turns are compared. So a machine that slows down does so for both. Conditions are named by what is
seen and the number of environments: ``rooms`` is a chain of rooms whose views are one-hot (539 numbers) and repeat;
``vectors`` shows 100 random numbers that never repeat, for continuous actions; ``cartpole`` is CartPole, one copy after
the other; ``atari`` is Montezuma's Revenge in frames of 84 x 84.
The environments' own time is part of all of it, and told beside it.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from matplotlib.figure import Figure

from benchmarks._peers import sbx_ppo
from benchmarks._results import bars, method_colors
from benchmarks.harness import Benchmark, Job, Size, main
from farl.envs.batched import BatchedVecEnv
from farl.errors import ConfigError

N_STEPS = 128
EPOCHS = 4


def run(job: Job) -> dict[str, Any]:
    import torch

    torch.set_num_threads(1)
    kind, n_envs = job.condition.rsplit("-", 1)
    if job.method == "cleanrl":
        return _beside_cleanrl(job, int(n_envs))
    models = [make(job.seed, kind, int(n_envs)) for make in (_plain(job.method), _other(job.method))]
    steps = models[0].n_steps * models[0].n_envs
    turns = max(2, job.parameters["steps"] // steps // 2)
    for model in models:
        model.learn(job.parameters["warm_up"] * steps)
    spent: list[list[float]] = [[], []]
    for _ in range(turns):
        for model, seconds in zip(models, spent, strict=True):
            began = time.process_time()
            model.learn(steps, reset_num_timesteps=False)
            seconds.append((time.process_time() - began) / steps * 1e6)
    plain, other = (statistics.median(seconds) for seconds in spent)
    alone = _environment_alone(models[0].env, turns * N_STEPS // 4)
    return {
        "speedup": plain / other,
        "sb3_us": plain,
        "us": other,
        "environment_us": alone,
        "steps_per_second": 1e6 / other,
        "sb3_steps_per_second": 1e6 / plain,
        "environment_steps_per_second": 1e6 / alone,
    }


def _beside_cleanrl(job: Job, n_envs: int) -> dict[str, Any]:
    from benchmarks._peers import cleanrl_us

    if not job.condition.startswith("cartpole"):
        raise ConfigError("cleanrl: its script takes vectors and one kind of environment here: cartpole-16")
    model = _model("ppo", job.seed, "cartpole", n_envs)
    rollouts = max(2, job.parameters["steps"] // (N_STEPS * n_envs) // 2)
    model.learn(job.parameters["warm_up"] * N_STEPS * n_envs)
    began = time.process_time()
    model.learn(rollouts * N_STEPS * n_envs, reset_num_timesteps=False)
    plain = (time.process_time() - began) / rollouts / N_STEPS / n_envs * 1e6
    other = cleanrl_us("CartPole-v1", n_envs, N_STEPS, EPOCHS, rollouts, job.seed)
    return {
        "speedup": plain / other,
        "sb3_us": plain,
        "us": other,
        "steps_per_second": 1e6 / other,
        "sb3_steps_per_second": 1e6 / plain,
    }


def _plain(method: str) -> Callable[[int, str, int], Any]:
    return lambda seed, kind, n_envs: _model(
        "recurrent" if method.startswith("recurrent") else "ppo", seed, kind, n_envs
    )


def _other(method: str) -> Callable[[int, str, int], Any]:
    return lambda seed, kind, n_envs: _model(method, seed, kind, n_envs)


def _model(method: str, seed: int, kind: str, n_envs: int) -> Any:
    from stable_baselines3 import PPO

    from farl import FAR, Fast

    algorithm: Any = PPO
    policy = "CnnPolicy" if kind == "atari" else "MlpPolicy"
    settings: dict[str, Any] = {"n_steps": N_STEPS, "batch_size": N_STEPS * n_envs // 4, "n_epochs": EPOCHS}
    if method.startswith("recurrent"):
        from sb3_contrib import RecurrentPPO

        algorithm, policy = RecurrentPPO, policy.replace("Policy", "LstmPolicy")
    if method == "sbx":
        algorithm = sbx_ppo()
    if method.endswith("fast"):
        algorithm = Fast(algorithm)
    if method.startswith("far"):
        algorithm = FAR(algorithm)
        settings["far"] = {}
        if "error" in method:
            settings["far"]["module"] = {"name": "rnd", "frame_stack": 4 if kind == "atari" else 1}
        if "shared" in method:
            settings["far"]["critic"] = "shared"
    return algorithm(policy, make_env(kind, n_envs, seed), seed=seed, device="cpu", **settings)


def make_env(kind: str, n_envs: int, seed: int) -> Any:
    """A vector environment of a condition."""
    from farl.envs.room_chain import RoomChainVecEnv
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    if kind == "rooms":
        return RoomChainVecEnv(n_envs, start="random")
    if kind == "cartpole":
        return make_vec_env(EnvironmentConfig(id="CartPole-v1", n_envs=n_envs, vector_backend="dummy"), seed)
    if kind == "vectors":
        return RandomVectors(n_envs, seed)
    return make_vec_env(EnvironmentConfig(id="ALE/MontezumaRevenge-v5", kind="atari", n_envs=n_envs), seed)


class RandomVectors(BatchedVecEnv):
    """Shows E times 100 random numbers, for 3 continuous actions; episodes of 200 steps."""

    def __init__(self, n_envs: int, seed: int) -> None:
        super().__init__(n_envs, spaces.Box(-5, 5, (100,), np.float32), spaces.Box(-1, 1, (3,), np.float32))
        self._rng = np.random.default_rng(seed)

    def reset(self) -> Any:
        """Draw the first observations."""
        return self._draw()

    def step_async(self, actions: Any) -> None:
        """Take the actions."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Reward the first number of each action."""
        self.lengths += 1
        rewards = self._actions[:, 0].astype(np.float32)
        self.returns += rewards
        dones = self.lengths >= 200
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        observations = self._draw()
        for env in np.flatnonzero(dones):
            infos[env] = self.finish(env, observations[env], truncated=True)
        return observations, rewards, dones, infos

    def _draw(self) -> Any:
        return self._rng.standard_normal((self.num_envs, 100), np.float32)


def _environment_alone(env: Any, steps: int) -> float:
    """CPU time of one step of one environment, in us."""
    actions = [np.array([env.action_space.sample() for _ in range(env.num_envs)]) for _ in range(8)]
    env.reset()
    began = time.process_time()
    for step in range(steps):
        env.step(actions[step % 8])
    return (time.process_time() - began) / steps / env.num_envs * 1e6


def _plots(document: Mapping[str, Any]) -> Mapping[str, Figure]:
    return {"speedup": bars(document, "speedup"), "throughput": _throughput(document)}


def _throughput(document: Mapping[str, Any]) -> Figure:
    """Steps per second over the number of environments in rooms, beside the environments alone."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    colors = method_colors(document)
    lines = [(method, "steps_per_second", method, "-") for method in document["summary"]]
    lines += [
        ("fast", "sb3_steps_per_second", "PPO of SB3", "--"),
        ("fast", "environment_steps_per_second", "environments alone", ":"),
    ]
    for method, metric, label, style in lines:
        cells = document["summary"].get(method, {})
        points = sorted(
            (int(name.removeprefix("rooms-")), cell[metric]["mean"])
            for name, cell in cells.items()
            if name.startswith("rooms-")
        )
        if points:
            axes.plot(
                *zip(*points, strict=True),
                style,
                marker="o",
                label=label,
                color=colors[method] if style == "-" else "gray",
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("environments")
    axes.set_ylabel("steps per second of CPU time")
    axes.legend()
    return figure


METHODS = ("fast", "far", "far-fast", "far-error-fast", "far-shared-fast", "recurrent-fast", "sbx", "cleanrl")
ROOMS = ("rooms-16", "rooms-64", "rooms-256", "rooms-1024")

BENCHMARK = Benchmark(
    name="fast",
    methods=METHODS,
    conditions=(*ROOMS, "vectors-16", "vectors-256", "cartpole-16", "atari-8"),
    metrics={
        "speedup": "CPU time of Stable-Baselines3's algorithm over that of this one",
        "us": "CPU time of a step, learning and environment included, in us",
        "sb3_us": "the same of Stable-Baselines3's algorithm",
        "environment_us": "CPU time of a step of the environment alone, in us",
        "steps_per_second": "environment steps per second of CPU time, learning included",
        "sb3_steps_per_second": "the same of Stable-Baselines3's algorithm",
        "environment_steps_per_second": "the same of the environment alone",
    },
    run=run,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"steps": 8_192, "warm_up": 1},
            note="one repeat of few steps, rooms only",
            methods=("fast", "far-fast"),
            conditions=("rooms-16",),
        ),
        "default": Size(
            seeds=3,
            parameters={"steps": 32_768, "warm_up": 2},
            note="32 768 steps instead of 262 144",
            methods=("fast", "far", "far-fast"),
            conditions=("rooms-16", "rooms-64", "rooms-256", "vectors-16", "vectors-256"),
        ),
        "full": Size(
            seeds=5,
            parameters={"steps": 262_144, "warm_up": 4},
            note="262 144 steps",
            methods=METHODS[:6],
        ),
    },
    alone=True,
    plot=_plots,
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
