"""Whether layouts differ: told from an agent's own ways against those of others."""

import numpy as np
import pytest

from farl.recognition.layouts import Layouts

N_ENVS, N_PLACES, N_ACTIONS, LENGTH = 8, 20, 2, 200


def watched(episodes: int, drawn_anew: bool, noise: float = 0.0, seed: int = 0) -> Layouts:
    """Let agents walk at random through worlds in which an action leads from a place to another."""
    rng = np.random.default_rng(seed)
    layouts, known = Layouts(N_ACTIONS), np.full((N_PLACES, N_ACTIONS), -1)
    layouts.start(N_ENVS)
    layouts.make_room(N_PLACES)
    worlds = np.repeat(rng.integers(N_PLACES, size=(1, N_PLACES, N_ACTIONS)), N_ENVS, axis=0)
    here = np.zeros(N_ENVS, np.int64)
    for step in range(episodes * LENGTH):
        starts = np.full(N_ENVS, step % LENGTH == 0)
        if starts.any() and drawn_anew:
            worlds = rng.integers(N_PLACES, size=worlds.shape)
        before = np.where(starts, -1, here)
        actions = rng.integers(N_ACTIONS, size=N_ENVS)
        after = worlds[np.arange(N_ENVS), here, actions]
        after = np.where(rng.random(N_ENVS) < noise, rng.integers(N_PLACES, size=N_ENVS), after)
        layouts.observe(before, actions, np.where(before < 0, -1, known[before, actions]), after, starts)
        known[before[before >= 0], actions[before >= 0]] = after[before >= 0]
        here = after
    return layouts


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_ways_of_one_world_hold_for_all_alike_however_noisy_they_are(noise):
    assert not watched(8, drawn_anew=False, noise=noise).differ


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_ways_of_layouts_drawn_anew_hold_in_their_episode_alone(noise):
    assert watched(8, drawn_anew=True, noise=noise).differ


def test_nothing_is_said_after_a_few_steps():
    layouts = watched(1, drawn_anew=True)
    assert not layouts.differ


def test_what_was_found_is_saved_and_goes_on_alike():
    layouts, again = watched(8, drawn_anew=True), Layouts(N_ACTIONS)
    again.start(N_ENVS)
    again.load_state_dict(layouts.state_dict())
    rng = np.random.default_rng(1)
    for _ in range(50):
        before, expected, after = rng.integers(N_PLACES, size=(3, N_ENVS))
        step = before, rng.integers(N_ACTIONS, size=N_ENVS), expected, after, rng.random(N_ENVS) < 0.1
        layouts.observe(*step)
        again.observe(*step)
    for name, value in layouts.state_dict().items():
        assert np.array_equal(value, again.state_dict()[name]), name


def test_places_that_became_one_make_what_was_found_no_other():
    layouts = watched(8, drawn_anew=True)
    layouts.merge(N_PLACES // 2)
    layouts.make_room(N_PLACES)
    assert layouts.differ
