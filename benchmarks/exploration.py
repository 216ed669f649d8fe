"""Does a curiosity that forgets less explore better? The same PPO with different intrinsic rewards, at equal budgets.

Methods, all with the same policy, PPO settings and number of environment steps:

- ``ppo``: no intrinsic reward
- ``rnd``, ``icm``, ``noveld``: that module, one for the whole world
- ``rnd-replay``: RND, each minibatch joined by as many samples out of a reservoir of 2 000
- ``count``: one over the root of the visits in the episode
- ``far``: FARCuriosity, with the settings of the forgetting study

Conditions: textured chains of rooms without any reward (`chain-6`, `chain-12`), with a goal in the last room, intrinsic
and extrinsic reward mixed (`chain-6-goal`, `chain-12-goal`), and MiniGrid, whose layouts are drawn anew in every
episode (`multiroom-n6`, `keycorridor-s3r3`, `obstructedmaze-1dlh`). Coverage is counted in the chains alone: elsewhere
there is no one map. Each seed has a layout of its own, none of which was used to choose settings.
"""

import sys
from typing import Any

import numpy as np

from benchmarks.harness import Benchmark, Job, Size, main

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
MINIGRID = {
    "multiroom-n6": "MiniGrid-MultiRoom-N6-v0",
    "keycorridor-s3r3": "MiniGrid-KeyCorridorS3R3-v0",
    "obstructedmaze-1dlh": "MiniGrid-ObstructedMaze-1Dlh-v0",
}
CHAINS = ("chain-6", "chain-12", "chain-6-goal", "chain-12-goal")
FIRST_LAYOUT = 2_000
N_ENVS, N_STEPS = 16, 128


def run(job: Job) -> dict[str, Any]:
    import time

    from stable_baselines3 import PPO

    from farl import FAR as far_of

    venv = _make_env(job)
    mixed = {"intrinsic_coef": 0.5} if job.condition in MINIGRID or job.condition.endswith("goal") else {}
    settings = SETTINGS[job.method]
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
    progress = _progress(venv.get_attr("reachable")[0] if job.condition in CHAINS else None)
    began = time.perf_counter()
    model.learn(job.parameters["steps"], callback=progress)
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


def _progress(reachable: Any) -> Any:
    """A callback that follows coverage and success over training."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Progress(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.covered = None if reachable is None else np.zeros_like(reachable)
            self.steps_to_90: int | None = None
            self.ended, self.reached = 0, 0
            self.curves: dict[str, list[float]] = {"steps": [], "coverage": [], "success": []}

        def _on_step(self) -> bool:
            infos = self.locals["infos"]
            if self.covered is not None:
                x, y = np.array([info["position"] for info in infos]).T
                self.covered[y, x] = True
                if self.steps_to_90 is None and self.coverage() >= 0.9:
                    self.steps_to_90 = self.num_timesteps
            for env in np.flatnonzero(self.locals["dones"]):
                self.ended += 1
                self.reached += infos[env]["episode"]["r"] > 0
            return True

        def coverage(self) -> float:
            return float(self.covered.sum() / reachable.sum())

        def _on_rollout_end(self) -> None:
            self.curves["steps"].append(self.num_timesteps)
            self.curves["coverage"].append(0.0 if self.covered is None else self.coverage())
            self.curves["success"].append(self.reached / self.ended if self.ended else 0.0)
            self.ended = self.reached = 0

        def metrics(self) -> dict[str, Any]:
            found: dict[str, Any] = {"success_auc": float(np.mean(self.curves["success"])), "curves": {}}
            shown = ["success"]
            if self.covered is not None:
                found |= {"coverage_auc": float(np.mean(self.curves["coverage"])), "coverage": self.coverage()}
                found["steps_to_90"] = self.steps_to_90
                shown = ["coverage", "success"]
            for name in shown:
                found["curves"][name] = {"x": self.curves["steps"], "y": self.curves[name]}
            return found

    return Progress()


BENCHMARK = Benchmark(
    name="exploration",
    methods=tuple(SETTINGS),
    conditions=(*CHAINS, *MINIGRID),
    metrics={
        "coverage_auc": "share of the reachable cells visited so far, mean over training",
        "coverage": "share of the reachable cells visited by the end",
        "steps_to_90": "environment steps until nine tenths were visited, over the runs that got there",
        "success_auc": "share of episodes that reach the goal, mean over training",
        "fragments": "fragments opened",
        "seconds": "wall-clock time of the run, in s",
    },
    run=run,
    statistic="interquartile mean",
    sizes={
        "quick": Size(
            seeds=1,
            parameters={"steps": 4_096},
            note="one seed, 4 096 steps",
            methods=("ppo", "far"),
            conditions=("chain-6",),
        ),
        "default": Size(seeds=5, parameters={"steps": 65_536}, note="65 536 steps instead of 409 600"),
        "full": Size(seeds=10, parameters={"steps": 409_600}),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
