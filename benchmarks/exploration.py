"""Which intrinsic reward explores best? The same PPO with each of them, at equal budgets.

Methods, all with the same policy, PPO settings and number of environment steps:

- ``ppo``: no intrinsic reward; ``random-walk``: no policy either
- ``rnd``, ``icm``, ``noveld``, ``e3b``, ``re3``, ``ngu``: that module, one for the whole world
- ``rnd-quarter``, ``far-quarter``: modules learn from a quarter of the samples
- ``rnd-replay``: RND, each minibatch joined by as many samples out of a reservoir of 2 000
- ``noveld-simhash``, ``noveld-places``: NovelD whose first visits are told by signs of random projections (16 bits), or
  by the place that is recognised
- ``count``, ``count-simhash``, ``count-life``: one over the root of the visits in the episode, by exact codes or 16
  bits; or of all visits
- ``far``: FARCuriosity, with the settings of the forgetting study; ``far-published``: with those of its paper
- ``recognition``: first visits to places, each agent's in its episode; ``recognition-any``: of any agent, ever
- ``recognition-graph``: the same as ``recognition``, and the graph of places leads the policy; ``advice-script``: the
  graph's advice is followed nine times of ten, without a policy, else a random action
- ``oracle``: PPO that is paid for each true cell that an agent comes to for the first time in its episode or its life

Conditions are textured rooms without any reward, by their plan: ``chain-N``, ``hub-HUBS-LENGTH``, ``tree-ROWS-COLS``,
``ring-ROWS-COLS``. Suffixes, in this order: ``-noise.05`` (each cell's colour redrawn with that probability) or
``-pixel.1``, ``-distractor3``, ``-light.5`` (other noise), ``-goal`` (a goal in the farthest room, intrinsic and
extrinsic reward mixed), ``-life`` (no resets). Other numbers than those that ``--help`` lists are read, too.
And MiniGrid, whose layouts are drawn anew in every episode (``multiroom-n6``, ``keycorridor-s3r3``,
``obstructedmaze-1dlh``), with twice the steps. Coverage over training is counted in the rooms alone: elsewhere there is
no one map, and the share of a layout that an episode visits takes its place. Each seed has a layout of its own,
``--layout-seed`` plus the seed, none of which was used to choose settings (those were 0 to 1 999).

On MiniGrid the weight of the intrinsic reward is, where it was searched for (``CHOSEN``), a method's best of three on
another world, ``multiroom-n4``, by success: ``--conditions multiroom-n4 --methods rnd:0.5,rnd:0.05,rnd:0.005,...
--steps 65536``.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._results import default_plots
from benchmarks.harness import Benchmark, Job, Size, main
from farl.errors import ConfigError

if TYPE_CHECKING:  # learning libraries are imported where a run needs them
    from benchmarks._explored import Progress

FAR: dict[str, Any] = {
    "module": {"name": "rnd"},
    "criterion": {"name": "cusum"},
    "recall": {"threshold": 0.97, "keys": "places"},
    "join_within": 100,
    "memory": {"keys_per_fragment": 256},
}
EPISODIC = {"criterion": None, "episodic": True}
SETTINGS: dict[str, dict[str, Any] | None] = {
    "ppo": None,
    "rnd": {"module": {"name": "rnd"}, "criterion": None},
    "icm": {"module": {"name": "icm"}, "criterion": None},
    "rnd-replay": {"module": {"name": "rnd"}, "criterion": None, "replay": 2_000},
    "rnd-quarter": {"module": {"name": "rnd"}, "criterion": None, "train_fraction": 0.25},
    "re3": {"module": {"name": "re3"}},
    "count": {"module": {"name": "pseudo_count"}} | EPISODIC,
    "count-simhash": {"module": {"name": "pseudo_count", "bits": 16}} | EPISODIC,
    "count-life": {"module": {"name": "pseudo_count", "scope": "lifelong"}},
    "e3b": {"module": {"name": "e3b"}} | EPISODIC,
    "ngu": {"module": {"name": "combination"}} | EPISODIC,
    "noveld": {"module": {"name": "noveld"}} | EPISODIC,
    "noveld-simhash": {"module": {"name": "noveld", "bits": 16}} | EPISODIC,
    "noveld-places": {"module": {"name": "recognition", "pays": "error"}} | EPISODIC,
    "far": FAR,
    "far-quarter": FAR | {"train_fraction": 0.25},
    "far-published": {"module": {"name": "rnd"}, "criterion": {"name": "zscore"}, "new_module": "fresh"},
    "recognition": {"module": {"name": "recognition"}} | EPISODIC,
    "recognition-any": {"module": {"name": "recognition", "scope": "all"}, "criterion": None},
    "recognition-graph": {"module": {"name": "recognition", "graph": {}}} | EPISODIC,
}
SCRIPTS = ("advice-script", "random-walk")
ORACLE = "oracle"
COEFFICIENTS = (0.5, 0.05, 0.005)
CHOSEN = {method: 0.05 if method in ("rnd", "icm") else 0.5 for method, far in SETTINGS.items() if far is not None}
"""Weights of the intrinsic reward on MiniGrid. Those of RND, ICM, replay, counts, NovelD and FAR were chosen on
``multiroom-n4``; methods that pay for first visits take NovelD's, as nobody has searched for theirs."""
OPTIONS = tuple(f"{method}:{weight}" for method in CHOSEN for weight in COEFFICIENTS)
MINIGRID = {
    "multiroom-n4": "MiniGrid-MultiRoom-N4-S5-v1",
    "multiroom-n6": "MiniGrid-MultiRoom-N6-v0",
    "keycorridor-s3r3": "MiniGrid-KeyCorridorS3R3-v0",
    "obstructedmaze-1dlh": "MiniGrid-ObstructedMaze-1Dlh-v0",
}
STUDIED = tuple(MINIGRID)[1:]
PLANS = ("hub-2-5", "chain-12", "hub-3-8", "tree-5-5", "ring-5-5", "chain-6", "chain-32")
SPOILT = ("", "-noise.01", "-noise.02", "-noise.05", "-noise.1", "-pixel.1", "-distractor3", "-light.5")
_ROOMS = re.compile(
    r"(?P<plan>[a-z]+(-\d+)+)"
    r"(-(?P<kind>noise|pixel|distractor|light)(?P<strength>[\d.]+))?(?P<goal>-goal)?(?P<life>-life)?"
)
ROOMS = tuple(
    f"{plan}{noise}{goal}{life}"
    for plan in PLANS
    for noise in SPOILT
    for goal in ("", "-goal")
    for life in ("", "-life")
)
MAIN = tuple(f"{plan}{noise}{life}" for plan in PLANS[:2] for noise in ("", "-noise.05") for life in ("", "-life"))
FIRST_LAYOUT = 2_000
MINIGRID_TIMES = 2
N_ENVS, N_STEPS = 16, 128


def run(job: Job) -> dict[str, Any]:
    import time

    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecNormalize

    from benchmarks._explored import FirstVisits, Progress
    from farl import FAR as far_of
    from farl import Fast

    venv = _make_env(job)
    with_goal = job.condition in MINIGRID or "-goal" in job.condition
    told = FirstVisits(venv, 0.5 if with_goal else 1.0) if job.method == ORACLE else None
    if told is not None:
        venv = VecNormalize(told, norm_obs=False)
    progress = Progress(venv, one_map=job.condition not in MINIGRID, with_goal=with_goal, oracle=told)
    if job.method in SCRIPTS:
        return follow_script(venv, job, progress)
    steps = job.parameters["steps"] * (MINIGRID_TIMES if job.condition in MINIGRID else 1)
    model: Any = far_of(Fast(PPO))(
        "MlpPolicy",
        venv,
        n_steps=N_STEPS,
        batch_size=256,
        n_epochs=4,
        learning_rate=5e-4,
        ent_coef=0.01,
        seed=job.seed,
        device="cpu",
        far=None if told is not None else far_settings(job.method, job.condition),
    )
    began = time.perf_counter()
    model.learn(steps, callback=progress)
    seconds = time.perf_counter() - began
    curiosity = model.curiosity
    venv.close()
    return progress.metrics() | {
        "fragments": None if curiosity is None else curiosity.fragments,
        "seconds": seconds,
    }


def far_settings(method: str, condition: str) -> dict[str, Any] | None:
    """Return the settings of ``FAR`` for a method, ``None`` where it has no intrinsic reward."""
    name, _, weight = method.partition(":")
    settings = SETTINGS[name]
    if settings is None:
        return None
    if condition in MINIGRID:
        # The goal ends the episode: did the intrinsic return end with it, the agent would learn to avoid the goal.
        return settings | {"intrinsic_coef": float(weight) if weight else CHOSEN[name], "episodic": False}
    return settings | ({"intrinsic_coef": 0.5} if "-goal" in condition else {})


def _make_env(job: Job) -> Any:
    from farl.envs.room_chain import RoomChainVecEnv
    from farl.experiment.config import EnvironmentConfig
    from farl.experiment.environments import make_vec_env

    if job.condition in MINIGRID:
        environment = EnvironmentConfig(id=MINIGRID[job.condition], kind="minigrid", n_envs=N_ENVS)
        return make_vec_env(environment, job.seed)
    layout = job.parameters["layout_seed"] + job.seed
    return RoomChainVecEnv(N_ENVS, layout_seed=layout, **rooms(job.condition))


def rooms(condition: str) -> dict[str, Any]:
    """Return the arguments of ``RoomChainVecEnv`` for a condition, such as ``hub-2-5-noise.05-life``.

    :raises ValueError: if there are no such rooms
    """
    from farl.envs.room_chain.noise import ViewNoise
    from farl.envs.room_chain.plans import parse_plan

    said = _ROOMS.fullmatch(condition)
    if said is None:
        raise ValueError(f"{condition}: not a plan with suffixes")
    noise = None if said["kind"] is None else f"{said['kind'].replace('noise', 'color')}-{said['strength']}"
    parse_plan(said["plan"], np.random.default_rng(0))
    ViewNoise(noise)
    return {
        "plan": said["plan"],
        "noise": noise,
        "goal": said["goal"] is not None,
        "max_steps": None if said["life"] else 500,
    }


def are_rooms(condition: str) -> bool:
    """Whether a condition that is not listed can be made all the same."""
    try:
        return bool(rooms(condition))
    except ValueError:
        return False


def follow_script(venv: Any, job: Job, progress: "Progress") -> dict[str, Any]:
    """Explore without a policy: by the graph's advice nine times of ten, or at random."""
    import time

    import torch

    from farl.sb3.config import FARConfig
    from farl.sb3.rollout import Rollout

    began = time.perf_counter()
    rng = np.random.default_rng(job.seed)
    config = FARConfig.parse(SETTINGS["recognition-graph"])
    assert config is not None
    rollout = Rollout(config, venv.observation_space, venv.action_space, N_ENVS, torch.device("cpu"), job.seed)
    venv.seed(job.seed)
    rollout.attach(venv)
    rollout.begin(venv.reset(), restarts=True)
    advice = rollout.advise(np.ones(N_ENVS, bool))
    progress.follow()
    for step in range(job.parameters["steps"] // N_ENVS):
        actions = rng.integers(venv.action_space.n, size=N_ENVS)
        if job.method == "advice-script":
            follows = advice.any(axis=1) & (rng.random(N_ENVS) >= 0.1)
            actions = np.where(follows, advice.argmax(axis=1), actions)
        observations, rewards, dones, infos = venv.step(actions)
        if job.method == "advice-script":
            rollout.add(observations, actions, rewards, dones, infos)
            rollout.take_in()
            advice = rollout.advise(dones)
        progress.saw((step + 1) * N_ENVS, dones, infos, ends_rollout=(step + 1) % N_STEPS == 0)
    venv.close()
    return progress.metrics() | {"seconds": time.perf_counter() - began}


def lead(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How far ``recognition-graph`` is ahead of each other method with the same seed, and so on the same layout."""
    done = {(row["condition"], row["seed"], row["method"]): row for row in rows if "error" not in row}
    ahead = []
    for (condition, seed, method), row in done.items():
        led = done.get((condition, seed, "recognition-graph"))
        if led is not None and method != "recognition-graph" and "coverage" in row:
            gained = {f"{name}_ahead": led[name] - row[name] for name in ("coverage", "coverage_end")}
            ahead.append({"method": method, "condition": f"{condition}, graph ahead of", "seed": seed, **gained})
    return ahead


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help=f"environment steps, MiniGrid takes {MINIGRID_TIMES} N (default: by size)",
    )
    parser.add_argument(
        "--layout-seed",
        type=int,
        default=FIRST_LAYOUT,
        metavar="N",
        help=f"layout of the rooms for seed 0; each seed has one of its own (default: {FIRST_LAYOUT})",
    )


def parameters(options: argparse.Namespace) -> dict[str, Any]:
    if options.layout_seed < 0:
        raise ConfigError(f"--layout-seed {options.layout_seed}: must not be negative")
    layout = {"layout_seed": options.layout_seed}
    if options.steps is None:
        return layout
    if options.steps < N_ENVS * N_STEPS:
        raise ConfigError(f"--steps {options.steps}: must be at least a rollout, {N_ENVS * N_STEPS}")
    return layout | {"steps": options.steps}


BENCHMARK = Benchmark(
    name="exploration",
    methods=(*SETTINGS, *SCRIPTS, ORACLE, *OPTIONS),
    conditions=(*ROOMS, *MINIGRID),
    further=are_rooms,
    metrics={
        "coverage": "share of the reachable cells visited so far, mean over training",
        "coverage_end": "share of the reachable cells visited by the end",
        "coverage_ahead": "coverage of recognition-graph less that of the method, paired by seed",
        "coverage_end_ahead": "the same for coverage_end",
        "steps_to_50": "environment steps until half were visited, over the runs that got there",
        "steps_to_90": "environment steps until nine tenths were visited, over the runs that got there",
        "episode_coverage": "share of the reachable cells that an episode visits, mean over rollouts that ended some",
        "success_auc": "share of episodes that reach the goal, mean over rollouts that ended some",
        "known_share": "share of steps that come to a cell which some agent has visited before",
        "frontier_auc": "how well the reward tells steps into cells that nobody visited from those beside them (AUC)",
        "fragments": "fragments opened",
        "seconds": "wall-clock time of the run, in s",
    },
    run=run,
    derive=lead,
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
            methods=(*SETTINGS, *SCRIPTS, ORACLE),
            conditions=(*MAIN, *STUDIED),
        ),
        "full": Size(
            seeds=10, parameters={"steps": 409_600}, methods=(*SETTINGS, *SCRIPTS, ORACLE), conditions=(*MAIN, *STUDIED)
        ),
    },
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))
