"""Does a curiosity that forgets less explore better? The same PPO with different intrinsic rewards, at equal budgets.

Methods, all with the same policy, PPO settings and number of environment steps:

- ``ppo``: no intrinsic reward
- ``rnd``, ``icm``, ``noveld``: that module, one for the whole world
- ``rnd-replay``: RND, each minibatch joined by as many samples out of a reservoir of 2 000
- ``count``: one over the root of the visits in the episode
- ``far``: FARCuriosity, with the settings of the forgetting study

Conditions: textured chains of rooms without any reward (`chain-6`, `chain-12`), with a goal in the last room, intrinsic
and extrinsic reward mixed (`chain-6-goal`, `chain-12-goal`), and MiniGrid, whose layouts are drawn anew in every
episode (`multiroom-n6`, `keycorridor-s3r3`, `obstructedmaze-1dlh`), with twice the steps. Coverage over training
is counted in the chains alone: elsewhere there is no one map, and the share of a layout that an episode visits takes
its place. Each seed of a chain has a layout of its own, none of which was used to choose settings.

On MiniGrid the weight of the intrinsic reward is each method's best of three on another world, `multiroom-n4`, by
success: ``--conditions multiroom-n4 --methods rnd:0.5,rnd:0.05,rnd:0.005,... --steps 65536``.
"""

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np

from benchmarks._results import default_plots
from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError

FAR: dict[str, Any] = {
    "criterion": {"name": "cusum"},
    "recall": {"threshold": 0.97, "keys": "places"},
    "join_within": 100,
    "memory": {"keys_per_fragment": 256},
}
SETTINGS: dict[str, dict[str, Any] | None] = {
    "ppo": None,
    "rnd": {"criterion": None},
    "icm": {"module": {"name": "icm"}, "criterion": None},
    "rnd-replay": {"criterion": None, "replay": 2_000},
    "count": {"module": {"name": "pseudo_count"}, "episodic": True},
    "noveld": {"module": {"name": "noveld"}, "criterion": None, "episodic": True},
    "far": FAR,
}
COEFFICIENTS = (0.5, 0.05, 0.005)
CHOSEN = {"rnd": 0.05, "icm": 0.05, "rnd-replay": 0.5, "count": 0.5, "noveld": 0.5, "far": 0.5}
"""Weights of the intrinsic reward on MiniGrid, chosen on ``multiroom-n4``."""
OPTIONS = tuple(f"{method}:{weight}" for method in CHOSEN for weight in COEFFICIENTS)
MINIGRID = {
    "multiroom-n4": "MiniGrid-MultiRoom-N4-S5-v1",
    "multiroom-n6": "MiniGrid-MultiRoom-N6-v0",
    "keycorridor-s3r3": "MiniGrid-KeyCorridorS3R3-v0",
    "obstructedmaze-1dlh": "MiniGrid-ObstructedMaze-1Dlh-v0",
}
STUDIED = tuple(MINIGRID)[1:]
CHAINS = ("chain-6", "chain-12", "chain-6-goal", "chain-12-goal")
FIRST_LAYOUT = 2_000
MINIGRID_TIMES = 2
N_ENVS, N_STEPS = 16, 128


def run(job: Job) -> dict[str, Any]:
    import time

    from stable_baselines3 import PPO

    from farl import FAR as far_of

    venv = _make_env(job)
    method, _, weight = job.method.partition(":")
    settings = SETTINGS[method]
    mixed: dict[str, Any] = {"intrinsic_coef": 0.5} if job.condition.endswith("goal") else {}
    steps = job.parameters["steps"]
    if job.condition in MINIGRID and settings is not None:
        # The goal ends the episode: did the intrinsic return end with it, the agent would learn to avoid the goal.
        mixed = {"intrinsic_coef": float(weight) if weight else CHOSEN[method], "episodic": False}
    if job.condition in MINIGRID:
        steps *= MINIGRID_TIMES
    model: Any = far_of(PPO)(
        "MlpPolicy",
        venv,
        n_steps=N_STEPS,
        batch_size=256,
        n_epochs=4,
        learning_rate=5e-4,
        ent_coef=0.01,
        seed=job.seed,
        device="cpu",
        far=None if settings is None else settings | mixed,
    )
    with_goal = job.condition in MINIGRID or job.condition.endswith("goal")
    progress = _progress(venv, one_map=job.condition in CHAINS, with_goal=with_goal)
    began = time.perf_counter()
    model.learn(steps, callback=progress)
    seconds = time.perf_counter() - began
    curiosity = model.curiosity
    venv.close()
    return progress.metrics() | {
        "fragments": None if curiosity is None else curiosity.fragments,
        "seconds": seconds,
    }


def _make_env(job: Job) -> Any:
    from farl.envs.room_chain import RoomChainVecEnv
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    if job.condition in MINIGRID:
        environment = EnvironmentConfig(id=MINIGRID[job.condition], kind="minigrid", n_envs=N_ENVS)
        return make_vec_env(environment, job.seed)
    rooms = int(job.condition.split("-")[1])
    goal = job.condition.endswith("goal")
    return RoomChainVecEnv(N_ENVS, cols=rooms, layout_seed=FIRST_LAYOUT + job.seed, goal=goal)


def _progress(venv: Any, one_map: bool, with_goal: bool) -> Any:
    """A callback that follows coverage over training, and success where there is a goal."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Progress(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.steps_to_90: int | None = None
            self.ended, self.reached, self.shares = 0, 0, 0.0
            shown = [*(["coverage"] if one_map else []), *(["success"] if with_goal else [])]
            self.curves: dict[str, dict[str, list[float]]] = {
                name: {"x": [], "y": []} for name in [*shown, "episode_coverage"]
            }

        def _on_training_start(self) -> None:
            reachable = np.stack(venv.get_attr("reachable"))
            self.cells = reachable.sum((1, 2))
            """int[n_envs], that can be reached in the present layout of each environment."""
            self.covered = np.zeros_like(reachable[0])
            self.visited = np.zeros_like(reachable)
            """In the present episode of each environment."""

        def _on_step(self) -> bool:
            infos = self.locals["infos"]
            x, y = np.array([info["position"] for info in infos]).T
            self.visited[np.arange(len(x)), y, x] = True
            self.covered[y, x] = True
            if one_map and self.steps_to_90 is None and self.coverage() >= 0.9:
                self.steps_to_90 = self.num_timesteps
            for env in np.flatnonzero(self.locals["dones"]):
                self.ended += 1
                self.reached += infos[env]["episode"]["r"] > 0
                self.shares += float(self.visited[env].sum() / self.cells[env])
                self.visited[env] = False
                if not one_map:
                    self.cells[env] = venv.get_attr("reachable", int(env))[0].sum()
            return True

        def coverage(self) -> float:
            return float(self.covered.sum() / self.cells[0])

        def _on_rollout_end(self) -> None:
            if one_map:
                self._note("coverage", self.coverage())
            if self.ended:  # a rollout in which no episode ended says nothing of episodes
                if with_goal:
                    self._note("success", self.reached / self.ended)
                self._note("episode_coverage", self.shares / self.ended)
            self.ended, self.reached, self.shares = 0, 0, 0.0

        def _note(self, name: str, value: float) -> None:
            self.curves[name]["x"].append(self.num_timesteps)
            self.curves[name]["y"].append(value)

        def metrics(self) -> dict[str, Any]:
            means = {name: float(np.mean(curve["y"])) for name, curve in self.curves.items() if curve["y"]}
            found: dict[str, Any] = {
                "success_auc": means.get("success"),
                "episode_coverage": means.get("episode_coverage"),
                "curves": {name: curve for name, curve in self.curves.items() if curve["y"]},
            }
            if one_map:
                found |= {"coverage_auc": means["coverage"], "coverage": self.coverage()}
                found["steps_to_90"] = self.steps_to_90
            return found

    return Progress()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"environment steps, MiniGrid takes {MINIGRID_TIMES} N (default: by size)",
    )


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    if options.steps is None:
        return {}
    if options.steps < N_ENVS * N_STEPS:
        raise ConfigError(f"--steps {options.steps}: must be at least a rollout, {N_ENVS * N_STEPS}")
    return {"steps": options.steps}


BENCHMARK = Benchmark(
    name="exploration",
    methods=(*SETTINGS, *OPTIONS),
    conditions=(*CHAINS, *MINIGRID),
    metrics={
        "coverage_auc": "share of the reachable cells visited so far, mean over training",
        "coverage": "share of the reachable cells visited by the end",
        "steps_to_90": "environment steps until nine tenths were visited, over the runs that got there",
        "episode_coverage": "share of the reachable cells that an episode visits, mean over rollouts that ended some",
        "success_auc": "share of episodes that reach the goal, mean over rollouts that ended some",
        "fragments": "fragments opened",
        "seconds": "wall-clock time of the run, in s",
    },
    run=run,
    statistic="interquartile mean",
    plot=partial(default_plots, x_label="environment steps"),
    add_arguments=add_arguments,
    parameters=parameters,
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"steps": 4_096},
            note="one seed, 4 096 steps",
            methods=("ppo", "far"),
            conditions=("chain-6",),
        ),
        "default": Size(
            seeds=5,
            parameters={"steps": 65_536},
            note="65 536 steps instead of 409 600",
            methods=tuple(SETTINGS),
            conditions=(*CHAINS, *STUDIED),
        ),
        "full": Size(seeds=10, parameters={"steps": 409_600}, methods=tuple(SETTINGS), conditions=(*CHAINS, *STUDIED)),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
