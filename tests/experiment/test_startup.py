"""What commands import: modules are counted, not seconds. And what they know without importing is what is so."""

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.preprocessing import is_image_space

import farl.envs
from farl.curiosity import FARCuriosity
from farl.envs import control_tasks, procgen_games
from farl.envs.registry import BATCHED_KINDS, MAP_WORLDS, MINIGRID, ROBOTS, ROOM_CHAINS, known_spaces
from farl.errors import ConfigError
from farl.experiment import hyperparameter_values, signatures
from farl.experiment.algorithms import ALGORITHMS, algorithm_class
from farl.experiment.checks import is_image
from farl.experiment.config import EnvironmentConfig, WrapperConfig
from farl.experiment.environments import make_probe
from farl.experiment.named_environments import find_vec_wrapper, find_wrapper_spaces, id_problem
from farl.experiment.one_environment import spaces_of
from farl.sb3.config import FARConfig

HEAVY = {"torch", "stable_baselines3", "sb3_contrib", "tensorboard", "pandas", "matplotlib", "cv2"}
ROOT = Path(__file__).parents[2]


def imported(*commands: list[str]) -> set[str]:
    code = (
        "import contextlib, io, json, sys\n"
        "from farl.cli import main\n"
        f"for command in json.loads({json.dumps(json.dumps(commands))}):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main(command) == 0, command\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_files_of_worlds_of_rooms_are_checked_without_torch_or_the_worlds() -> None:
    found = imported(
        ["validate", "quickstart"],
        ["validate", "ppo_baseline"],
        ["validate", "rnd_baseline", "algorithm.hyperparameters.policy_kwargs={activation_fn: Tanh}"],
        ["validate", "far_published", "environment.kind=gymnasium", "environment.id=farl/RoomHub-v0"],
        ["list", "modules"],
        ["list", "algorithms"],
        ["schema"],
    )
    assert not found & (HEAVY | {"minigrid", "networkx", "numba", "scipy", "filelock"})


@pytest.mark.parametrize(
    "command",
    [
        ["validate", "farmap"],
        ["validate", "quickstart", "environment.kwargs={room_size: 5}"],
        ["validate", "quickstart", "environment.kind=minigrid", "environment.id=MiniGrid-MultiRoom-N6-v0"],
        ["validate", "quickstart", "environment.kind=gymnasium", "environment.id=CartPole-v1"],
        ["validate", "minigrid_multiroom"],
        ["list", "envs"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_an_environment_is_made_to_learn_its_spaces_without_torch(command: list[str]) -> None:
    assert not imported(command) & HEAVY


@pytest.mark.parametrize(
    ("name", "package"),
    [("control_levels", "gymnasium"), ("procgen_starpilot", "procgen"), ("atari_venture", "ale_py")],
)
def test_files_of_games_are_checked_without_what_learns_them(name: str, package: str) -> None:
    pytest.importorskip(package)
    assert not imported(["validate", name]) & (HEAVY - {"cv2"} | {"minigrid", "networkx", "numba"})


def test_files_of_generated_maps_are_checked_without_a_map() -> None:
    assert not imported(["validate", "farmap"], ["validate", "farmap_plus"]) & (
        HEAVY | {"numba", "farl.envs.map_world"}
    )


def test_files_of_maps_are_checked_without_what_draws_and_measures_maps() -> None:
    found = imported(["validate", "farmap"], ["validate", "farmap_plus"], ["validate", "hairpin"])
    assert not found & {"scipy.ndimage", "scipy.sparse", "minigrid"}


def test_files_of_robots_and_of_wrapped_maps_are_checked_without_a_building_or_a_map() -> None:
    found = imported(["validate", "robot"], ["validate", "farmap_ppo"], ["validate", "farmap_ppo_baseline"])
    assert not found & (HEAVY | {"numba", "scipy", "minigrid", "farl.envs.robot.env", "farl.envs.map_world.env"})


def test_files_of_miniworld_are_checked_without_minigrid() -> None:
    problem = id_problem(EnvironmentConfig(id="MiniWorld-OneRoom-v0"))
    if problem is not None:
        pytest.skip(problem)
    assert not imported(["validate", "miniworld_rooms"]) & (HEAVY | {"minigrid", "networkx"})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_table_of_signatures_is_what_the_algorithms_take(name: str) -> None:
    known, real = signatures._from_table(name), signatures.read_signature(algorithm_class(name))
    both = [signatures.make_table([signature])["algorithms"] for signature in (known, real)]
    assert both[0] == both[1], "run python -m farl.experiment.signatures"
    assert known.defaults == real.defaults
    assert signatures.signature_of(name) == known


def test_another_version_of_an_algorithm_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "_version", lambda package: "0.0")
    assert signatures.signature_of("PPO") == signatures.read_signature(algorithm_class("PPO"))


def test_the_classes_that_are_known_without_torch_are_there() -> None:
    namespaces = {
        "activation_fn": torch.nn,
        "optimizer_class": torch.optim,
        "features_extractor_class": torch_layers,
    }
    for key, names in hyperparameter_values._USUAL_CLASSES.items():
        assert all(hasattr(namespaces[key], name) for name in names)


@pytest.mark.parametrize("observation", [None, "one_hot", "symbolic", "rgb"])
def test_the_spaces_that_are_known_are_those_of_the_worlds(observation: str | None) -> None:
    for specs, kind in ((MINIGRID, "minigrid"), (ROOM_CHAINS, "gymnasium"), (MAP_WORLDS, "gymnasium")):
        for spec in specs if observation is None else specs[:1]:
            if kind == "gymnasium" and observation is not None:
                continue
            environment = EnvironmentConfig(id=spec.id, kind=kind, observation=observation)
            probe = make_probe(environment)
            assert spaces_of(environment) == (probe.observation_space, probe.action_space)
            assert known_spaces(spec.id, kind, observation, {}) is not None
            assert known_spaces(spec.id, kind, observation, {"max_steps": 7}) is not None
            probe.close()


@pytest.mark.parametrize("kwargs", [{}, {"beams": 7, "drift": 0.1, "until_covered": None, "max_steps": 9}])
def test_the_spaces_that_are_known_of_robots_are_theirs(kwargs: dict[str, Any]) -> None:
    (spec,) = ROBOTS
    probe = make_probe(EnvironmentConfig(id=spec.id, kwargs=kwargs))
    assert known_spaces(spec.id, "gymnasium", None, kwargs) == (probe.observation_space, probe.action_space)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("EgocentricObservation", {}),
        ("FARMapObservation", {}),
        ("FARMapObservation", {"map_size": 7, "coverage_reward": 0.1}),
    ],
)
def test_wrappers_that_tell_their_spaces_have_them(name: str, kwargs: dict[str, Any]) -> None:
    wrapper = WrapperConfig(name=name, kwargs=kwargs)
    environment = EnvironmentConfig(
        id="farl/MapWorld-Small-v0", kwargs={"view_size": 9, "maps": "hairpin"}, vec_wrappers=[wrapper]
    )
    probe = make_probe(environment)
    assert spaces_of(environment) == (probe.observation_space, probe.action_space)
    probe.close()
    told, made = find_wrapper_spaces(wrapper), find_vec_wrapper(wrapper)
    assert told is not None
    own, real = (list(inspect.signature(function).parameters.values())[1:] for function in (told, made))
    assert own == real


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("farl/MapWorld-Small-v0", {"max_steps": 0}),
        ("farl/MapWorld-Small-v0", {"max_steps": "all"}),
        ("farl/RoomChain-v0", {"max_steps": -1}),
        ("farl/Robot-v0", {"max_steps": 0}),
        ("farl/Robot-v0", {"until_covered": 2.0}),
        ("farl/Robot-v0", {"drift": "none"}),
        ("farl/Robot-v0", {"beam": 3}),
        ("farl/Robot-v0", {"radius": 4.9}),
        ("farl/Robot-v0", {"lidar_range": 0.01}),
        ("farl/Robot-v0", {"world": "offise"}),
        ("farl/Robot-v0", {"maps": "no.yaml"}),
        ("farl/Robot-v0", {"start": [-1.0, 0.0, 0.0]}),
    ],
)
def test_what_a_world_does_not_take_is_refused(name: str, kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        spaces_of(EnvironmentConfig(id=name, kwargs=kwargs))


@pytest.mark.parametrize(
    ("name", "kwargs", "told"),
    [
        ("farl/MapWorld-Small-v0", {"map_size": 20}, "map_size must be odd"),
        ("farl/MapWorld-Small-v0", {"map_size": "big"}, "cannot be made"),
        ("farl/MapWorld-Small-v0", {"settings": {"criterion": "zscor"}}, "did you mean zscore"),
        ("farl/MapWorld-Small-v0", {"map_sise": 21}, "has no argument 'map_sise'"),
        ("farl/RoomChain-v0", {}, "FARMapObservation explores map worlds"),
    ],
)
def test_what_a_wrapper_does_not_take_is_refused(name: str, kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        spaces_of(EnvironmentConfig(id=name, vec_wrappers=[WrapperConfig(name="FARMapObservation", kwargs=kwargs)]))


def test_the_games_and_tasks_that_are_known_are_those_there_are() -> None:
    assert BATCHED_KINDS["control"].ids == tuple(control_tasks.TASKS)
    assert BATCHED_KINDS["procgen"].ids == procgen_games.GAMES


@pytest.mark.parametrize(
    ("name", "kind", "package"),
    [
        ("Acrobot", "control", "gymnasium"),
        ("maze", "procgen", "procgen"),
        ("ALE/MontezumaRevenge-v5", "atari", "ale_py"),
        ("ALE/Pong-v5", "atari", "ale_py"),
    ],
)
def test_the_spaces_of_games_are_known_without_making_what_is_learnt_from(name: str, kind: str, package: str) -> None:
    pytest.importorskip(package)
    environment = EnvironmentConfig(id=name, kind=kind)
    probe = make_probe(environment)
    assert spaces_of(environment) == (probe.observation_space, probe.action_space)
    probe.close()


@pytest.mark.parametrize(
    ("kind", "name", "kwargs"),
    [
        ("control", "CartPole", {"levl": 1}),
        ("control", "CartPole", {"level": -1}),
        ("control", "CartPole", {"level": "one"}),
        ("control", "CartPole", {"num_envs": 2}),
        ("procgen", "maze", {"num_levls": 1}),
        ("procgen", "maze", {"distribution_mode": "extreme"}),
        ("procgen", "maze", {"start_level": 2**31}),
        ("procgen", "maze", {"num_threads": "two"}),
        ("atari", "ALE/Pong-v5", {"frame_skip": 4}),
        ("atari", "ALE/Pong-v5", {"frameskip": "four"}),
        ("atari", "ALE/Pong-v5", {"frameskip": 0}),
        ("atari", "ALE/Pong-v5", {"noop_max": -1}),
        ("atari", "ALE/Pong-v5", {"episodic_life": 1}),
        ("atari", "ALE/Pong-v5", {"repeat_action_probability": 1.5}),
    ],
)
def test_what_a_game_does_not_take_is_refused_before_one_is_made(kind: str, name: str, kwargs: dict[str, Any]) -> None:
    pytest.importorskip({"control": "gymnasium", "atari": "ale_py"}.get(kind, kind))
    with pytest.raises(ConfigError):
        spaces_of(EnvironmentConfig(id=name, kind=kind, kwargs=kwargs))


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8),
        gymnasium.spaces.Box(0, 255, (60, 80, 3), np.uint8),
        gymnasium.spaces.Box(0, 254, (60, 80, 3), np.uint8),
        gymnasium.spaces.Box(0, 255, (60, 80, 3), np.float32),
        gymnasium.spaces.Box(0, 255, (60, 80), np.uint8),
        gymnasium.spaces.Discrete(3),
    ],
)
def test_what_is_an_image_is_what_stable_baselines3_takes_for_one(space: gymnasium.Space[Any]) -> None:
    assert is_image(space) == is_image_space(space)


def test_every_environment_of_its_own_can_be_named() -> None:
    for name in farl.envs.list_envs():
        assert name in gymnasium.registry
        assert id_problem(EnvironmentConfig(id=name)) is None


def test_the_defaults_of_the_settings_are_those_of_curiosity() -> None:
    parameters = inspect.signature(FARCuriosity).parameters
    settings = FARConfig(module={"name": "rnd"})
    for name in (
        *("join_within", "new_module", "gamma", "learning_rate"),
        *("train_fraction", "epochs", "batch_size", "warmup"),
    ):
        assert getattr(settings, name) == parameters[name].default, name
