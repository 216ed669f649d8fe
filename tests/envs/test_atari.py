"""Atari through ale-py's threads and through SB3's wrappers: one interface, and the traps of both."""

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

pytest.importorskip("ale_py", reason="Atari needs the extra atari: pip install 'farl[atari]'")

from farl.envs.atari import AtariVecEnv
from farl.envs.atari_games import AtariSettings
from farl.errors import ConfigError
from farl.experiment.config import EnvironmentConfig
from farl.experiment.environments import make_vec_env

BACKENDS = ["dummy", "ale"]


def make(backend, game="ALE/Breakout-v5", n_envs=2, seed=0, **kwargs):
    environment = EnvironmentConfig(id=game, kind="atari", n_envs=n_envs, vector_backend=backend, kwargs=kwargs)
    return make_vec_env(environment, seed)


def play(venv, steps, seed=0):
    """Random actions; yields what each step gave."""
    rng = np.random.default_rng(seed)
    venv.reset()
    for _ in range(steps):
        yield venv.step(rng.integers(venv.action_space.n, size=venv.num_envs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_backends_give_four_gray_frames_channels_first_and_float_rewards(backend):
    venv = make(backend)
    assert venv.observation_space.shape == (4, 84, 84)
    assert venv.action_space.n == 4
    observations, rewards, dones, infos = next(play(venv, 1))
    assert observations.shape == (2, 4, 84, 84)
    assert observations.dtype == np.uint8
    assert np.issubdtype(rewards.dtype, np.floating)  # ale-py's own are integers: a bonus could not be added
    assert dones.dtype == bool
    assert len(infos) == 2
    venv.close()


def test_both_backends_show_the_same_game():
    """Freeway needs no fire to begin: without no-ops both start alike. Their grays differ by a few levels."""
    venvs = [make(backend, "ALE/Freeway-v5", 1, noop_max=0, episodic_life=False) for backend in BACKENDS]
    for wrapped, threaded in zip(*(play(venv, 40) for venv in venvs), strict=True):
        difference = np.abs(wrapped[0].astype(int) - threaded[0])
        assert difference.mean() < 1.0
        assert difference.max() < 32
        assert wrapped[1] == threaded[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lost_life_ends_an_episode_but_not_the_game_whose_return_is_recorded_at_its_end(backend):
    venv = make(backend, "ALE/SpaceInvaders-v5", 2, reward_clipping=False)
    ends = games = 0
    returns = np.zeros(2)
    for _, rewards, dones, infos in play(venv, 450):
        returns += rewards
        for env in np.flatnonzero(dones):
            ends += 1
            if "episode" in infos[env]:
                games += 1
                assert infos[env]["episode"]["r"] == returns[env] > 0
                returns[env] = 0
    assert ends >= 3 * games > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_rewards_are_clipped_to_their_sign_but_the_return_is_raw(backend):
    venv = make(backend, "ALE/SpaceInvaders-v5", 2, max_num_frames_per_episode=1200, episodic_life=False)
    rewards, returns = [], []
    for _, step_rewards, _, infos in play(venv, 301):
        rewards.append(step_rewards)
        returns += [info["episode"]["r"] for info in infos if "episode" in info]
    assert set(np.unique(rewards)) == {0.0, 1.0}
    assert max(returns) >= 5 * np.sum(rewards, axis=0).max()


def test_after_a_lost_life_the_last_observation_is_that_of_the_game_that_goes_on():
    """ale-py leaves ``final_obs`` unset there: it must not be shown."""
    venv = make("ale")
    lives = 0
    for observations, _, dones, infos in play(venv, 300):
        for env in np.flatnonzero(dones):
            if "episode" not in infos[env]:
                lives += 1
                np.testing.assert_array_equal(infos[env]["terminal_observation"], observations[env])
                assert infos[env]["TimeLimit.truncated"] is False
            else:
                assert (infos[env]["terminal_observation"] != observations[env]).any()
    assert lives > 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_game_that_is_cut_off_is_truncated_after_its_frames(backend):
    venv = make(backend, "ALE/Freeway-v5", 1, max_num_frames_per_episode=80, noop_max=0, episodic_life=False)
    ends = [(step, infos[0]) for step, (_, _, dones, infos) in enumerate(play(venv, 45)) if dones[0]]
    assert [step for step, _ in ends] == [19, 39]
    assert all(info["TimeLimit.truncated"] for _, info in ends)


@pytest.mark.parametrize("backend", BACKENDS)
def test_actions_stick_only_where_that_is_asked_for(backend):
    def trace(**kwargs):
        venv = make(backend, "ALE/Freeway-v5", 1, seed=1, noop_max=0, **kwargs)
        return np.array([observations.sum() for observations, *_ in play(venv, 30)])

    assert (trace() == trace(repeat_action_probability=0.0)).all()
    assert (trace() != trace(repeat_action_probability=0.25)).any()


def test_the_same_seed_gives_the_same_episodes_whatever_the_number_of_threads():
    traces = [
        [(observations.sum(), rewards.sum()) for observations, rewards, *_ in play(make("ale", num_threads=n), 100)]
        for n in (1, 2)
    ]
    assert traces[0] == traces[1]


def test_observations_of_earlier_steps_are_left_alone():
    venv = make("ale")
    steps = play(venv, 20)
    first = next(steps)[0]
    copy = first.copy()
    for _ in steps:
        pass
    np.testing.assert_array_equal(first, copy)


def test_returns_stay_raw_below_vec_normalize():
    environment = EnvironmentConfig(
        id="ALE/Breakout-v5", kind="atari", n_envs=2, vector_backend="ale", normalize_rewards=True
    )
    venv = make_vec_env(environment, 0)
    assert isinstance(venv, VecNormalize)
    returns = [info["episode"]["r"] for *_, infos in play(venv, 450) for info in infos if "episode" in info]
    assert returns
    assert all(value == int(value) for value in returns)


def test_a_game_that_ale_py_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="write it as in ALE/Jamesbond-v5"):
        AtariVecEnv("CartPole-v1", 1)


def test_unknown_settings_are_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean noop_max"):
        make("ale", noop_mx=3)


def test_both_backends_take_the_whole_action_space():
    assert {make(backend, full_action_space=True).action_space.n for backend in BACKENDS} == {18}


def test_defaults_are_the_usual_preprocessing_without_sticky_actions():
    settings = AtariSettings()
    assert (settings.frameskip, settings.noop_max, settings.repeat_action_probability) == (4, 30, 0.0)
    assert settings.episodic_life
    assert settings.reward_clipping


def test_montezuma_tells_where_the_agent_is_by_room():
    venv = make("dummy", "ALE/MontezumaRevenge-v5", 1, noop_max=0)
    positions = np.array([infos[0]["position"] for *_, infos in play(venv, 120)])
    reachable, room_of_cell = (venv.get_attr(name)[0] for name in ("reachable", "room_of_cell"))
    venv.close()
    assert reachable.sum() == 24 * 80
    assert reachable[tuple(positions.T[::-1])].all()
    assert (room_of_cell[tuple(positions.T[::-1])] == 1).all()
    assert (positions // [10, 8] == [4, 0]).all()  # the middle of the uppermost of four floors, up to nine rooms wide
    assert len(np.unique(positions, axis=0)) > 2
