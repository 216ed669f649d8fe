"""MiniWorld: positions and floor, a run with FAR from YAML, and what is said where it cannot be used."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from farl.envs.miniworld import MiniWorldCells, register_miniworld
from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig
from farl.experiment.loading import load_config
from farl.experiment.named_environments import id_problem
from farl.experiment.one_environment import make_one
from farl.experiment.run import train


def _why_not() -> str:
    try:
        register_miniworld()
        gym.make("MiniWorld-OneRoom-v0").close()
    except Exception as error:
        return f"MiniWorld cannot be used here: {str(error).splitlines()[0]}"
    return ""


WHY_NOT = _why_not()
needs_miniworld = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@needs_miniworld
def test_the_agents_square_lies_on_the_floor_and_layouts_are_kept_or_drawn_anew() -> None:
    env = MiniWorldCells(gym.make("MiniWorld-MazeS2-v0"), cell=0.5, layout_seed=3)
    first, info = env.reset()
    assert first.shape == (60, 80, 3)
    assert first.std() > 0
    floor = env.reachable.copy()
    for _ in range(30):
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        x, y = info["position"]
        assert env.reachable[y, x]
        assert not terminated
        assert not truncated
    assert not np.array_equal(observation, first)
    again, info = env.reset()
    assert np.array_equal(again, first)
    assert np.array_equal(env.reachable, floor)
    assert not env.world_changes
    anew = MiniWorldCells(gym.make("MiniWorld-MazeS2-v0"))
    assert anew.world_changes
    starts = {anew.reset(seed=seed)[0].tobytes() for seed in range(3)}
    assert len(starts) == 3
    # A maze of two by two rooms of 3 m with 0.25 m between them.
    assert floor.shape == (13, 13)


@needs_miniworld
def test_textures_are_read_as_pyglet_reads_them() -> None:
    pyglet_image = pytest.importorskip("pyglet.image")
    folder = Path(pytest.importorskip("miniworld").__file__).parent / "textures"
    for name in ("brick_wall_1.png", "lava_1.png"):  # of three channels, and of four
        mine, theirs = (
            pyglet_image.load(str(folder / name), decoder=decoder) for decoder in pyglet_image.get_decoders(name)[:2]
        )
        assert mine.format == "RGBA"
        assert mine.get_data("RGB", 3 * mine.width) == theirs.get_data("RGB", 3 * theirs.width)


@needs_miniworld
def test_ppo_explores_rooms_from_pixels(tmp_path: Path) -> None:
    small = ["total_timesteps=64", "environment.n_envs=2", "far.module.calibration=16", "logging.image_freq=0"]
    small += ["algorithm.hyperparameters.n_steps=32", "algorithm.hyperparameters.batch_size=32"]
    metrics = train(load_config("miniworld_rooms", small), tmp_path)
    assert metrics["total_timesteps"] == 64
    assert metrics["coverage"] > 0


@needs_miniworld
def test_the_maze_is_another_world_of_the_same_preset() -> None:
    rooms, maze = load_config("miniworld_rooms"), load_config("miniworld_maze")
    assert maze.far == rooms.far
    assert make_one(maze.environment).reset()[0].shape == (60, 80, 3)


@needs_miniworld
def test_unknown_rooms_are_one_line() -> None:
    problem = id_problem(EnvironmentConfig(id="MiniWorld-FourRoom-v0"))
    assert problem is not None
    assert "did you mean" in problem
    assert "MiniWorld-FourRooms-v0" in problem


def test_other_environments_and_sides_are_refused() -> None:
    with pytest.raises(ConfigError, match="takes an environment of MiniWorld, not CartPoleEnv"):
        MiniWorldCells(gym.make("CartPole-v1"))


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyglet", None)
    assert id_problem(EnvironmentConfig(id="MiniWorld-Maze-v0")) == (
        "MiniWorld needs an extra: pip install 'farl[miniworld]'"
    )
    with pytest.raises(ConfigError, match="farl\\[miniworld\\]"):
        make_one(EnvironmentConfig(id="MiniWorld-Maze-v0"))


def test_without_opengl_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise ImportError('Library "GLU" not found.')

    monkeypatch.setattr("farl.envs.miniworld.importlib.import_module", broken)
    problem = id_problem(EnvironmentConfig(id="MiniWorld-Maze-v0"))
    assert problem is not None
    assert 'Library "GLU" not found.; it needs OpenGL' in problem
    assert "\n" not in problem
