import sys
import threading
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from farl.envs.procgen import ProcgenVecEnv
from farl.envs.procgen_games import EXPLORATION, EXTREME, GAMES, MEMORY, N_ACTIONS, TIMEOUTS
from farl.errors import ConfigError


def problem() -> str | None:
    """Why ProcGen cannot run here: it is not installed, or the system lacks a library."""
    try:
        ProcgenVecEnv("starpilot", 1).close()
    except ConfigError as error:
        return error.problems[0]
    return None


PROBLEM = problem()
needs_procgen = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


def play(env: ProcgenVecEnv, steps: int, seed: int = 0) -> tuple[list[Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    seen, episodes = [np.array(env.reset())], []
    for _ in range(steps):
        observations, rewards, dones, infos = env.step(rng.integers(0, N_ACTIONS, env.num_envs))
        seen.append((np.array(observations), rewards, dones))
        episodes += [info for info, done in zip(infos, dones, strict=True) if done]
    return seen, episodes


@needs_procgen
@pytest.mark.parametrize("game", GAMES)
def test_every_game_plays_with_channels_first_and_keeps_a_monitors_record(game):
    env = ProcgenVecEnv(game, 4, distribution_mode="easy", seed=0)
    assert env.observation_space.shape == (3, 64, 64)
    seen, _ = play(env, 20)
    assert seen[0].shape == (4, 3, 64, 64)
    assert seen[0].dtype == np.uint8
    assert (seen[0] != seen[-1][0]).any()
    assert env.env_is_wrapped(Monitor) == [True] * 4
    env.close()


@needs_procgen
def test_the_librarys_table_of_games_and_modes_is_ours():
    from procgen import env as library

    assert sorted(library.ENV_NAMES) == list(GAMES)
    assert sorted(library.EXPLORATION_LEVEL_SEEDS) == sorted(EXPLORATION)


@needs_procgen
@pytest.mark.parametrize(("mode", "games"), [("extreme", EXTREME), ("memory", MEMORY), ("exploration", EXPLORATION)])
def test_games_have_the_modes_that_the_table_says(mode, games):
    for game in games:
        ProcgenVecEnv(game, 1, distribution_mode=mode, seed=0).close()


@needs_procgen
def test_the_same_seed_gives_the_same_episodes_whatever_the_threads():
    traces = []
    for threads in (1, 2):
        env = ProcgenVecEnv("starpilot", 4, distribution_mode="easy", seed=7, num_threads=threads)
        traces.append(play(env, 150)[0])
    env.seed(7)
    traces.append(play(env, 150)[0])
    env.seed(8)
    other = play(env, 1)[0]
    for trace in traces[1:]:
        for a, b in zip(traces[0][1:], trace[1:], strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
    assert (other[0] != traces[0][0]).any()


@needs_procgen
def test_one_level_is_always_the_same_level():
    env = ProcgenVecEnv("starpilot", 4, num_levels=1, start_level=23, seed=0)
    first = np.array(env.reset())
    assert (first == first[0]).all()
    assert [info["level_seed"] for info in env.reset_infos] == [23] * 4
    play(env, 5)
    np.testing.assert_array_equal(env.reset(), first)


@needs_procgen
def test_returns_are_raw_and_the_timeout_is_a_truncation():
    env = ProcgenVecEnv("leaper", 4, distribution_mode="easy", seed=0)
    env.reset()
    truncated, lengths, total, returns = [], [], np.zeros(4), []
    for _ in range(TIMEOUTS["leaper"] + 5):
        before = np.array(env._games._last)
        _, rewards, dones, infos = env.step(np.full(4, 4))  # stay
        total += rewards
        for index in np.flatnonzero(dones):
            info = infos[index]
            np.testing.assert_array_equal(info["terminal_observation"], before[index])
            truncated.append(info["TimeLimit.truncated"])
            lengths.append(info["episode"]["l"])
            returns.append(info["episode"]["r"] - total[index])
            total[index] = 0
    assert max(lengths) == TIMEOUTS["leaper"]
    assert truncated == [length == TIMEOUTS["leaper"] for length in lengths]
    assert np.allclose(returns, 0)


@needs_procgen
def test_an_environment_is_collected_while_another_is_made_without_a_deadlock():
    """Closing takes a lock of cffi on the first look-up of the function; that of making another is held meanwhile."""
    env = ProcgenVecEnv("coinrun", 1)
    games = env._games.env
    with games._ffi._lock:  # as while declarations are parsed
        closing = threading.Thread(target=env.close, daemon=True)
        closing.start()
        closing.join(10)
    assert not closing.is_alive()


@needs_procgen
def test_ppo_learns_on_it_and_is_evaluated():
    env = ProcgenVecEnv("starpilot", 4, distribution_mode="easy", seed=0)
    model = PPO("CnnPolicy", env, n_steps=16, batch_size=32, n_epochs=1, seed=0, device="cpu").learn(128)
    assert model.get_env() is env
    returns, lengths = evaluate_policy(model, env, 2, return_episode_rewards=True)
    assert len(returns) == len(lengths) == 2


@needs_procgen
def test_pictures_are_large_in_render_mode():
    env = ProcgenVecEnv("maze", 2, seed=0, render_mode="rgb_array")
    env.reset()
    assert [image.shape for image in env.get_images()] == [(512, 512, 3)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"game": "starpilo"}, "did you mean starpilot"),
        ({"distribution_mode": "harder"}, "did you mean hard"),
        ({"game": "maze", "distribution_mode": "extreme"}, "maze has no distribution_mode 'extreme'"),
        ({"start_level": -1}, "do not exist"),
        ({"num_levels": -2}, "do not exist"),
        ({"start_level": 2**31 - 5, "num_levels": 10}, "do not exist"),
        ({"num_levels": 1.5}, "must be a whole number"),
        ({"num_envs": 0}, "at least 1"),
        ({"game": "coinrun", "distribution_mode": "exploration", "num_levels": 3}, "one level of its own"),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ProcgenVecEnv(**{"game": "starpilot", "num_envs": 2} | arguments)
    assert "\n" not in str(caught.value)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "procgen", None)
    with pytest.raises(ConfigError, match=r"pip install 'farl\[procgen\]'"):
        ProcgenVecEnv("maze", 1)


def test_a_missing_system_library_names_its_debian_packages(monkeypatch):
    def refuse(name):
        raise OSError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("farl.envs.procgen_games.importlib.import_module", refuse)
    with pytest.raises(ConfigError, match=r"library libGL.so.1; on Debian and Ubuntu: apt-get install libgl1") as told:
        ProcgenVecEnv("maze", 1)
    assert len(told.value.problems) == 1
