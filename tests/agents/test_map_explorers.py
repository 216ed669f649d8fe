import copy

import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from farl.agents.farmap import FARMap
from farl.agents.farmap_plus import FARMapPlus
from farl.agents.frontier import FrontierExplorer, RandomExplorer
from farl.envs.map_world import MapWorldEnv, MapWorldVecEnv, generate_world
from farl.sb3.exploration import ExplorationCallback

AGENTS = {
    "farmap": FARMap,
    "farmap-plus": lambda **kwargs: FARMapPlus(largest=400, smallest=200, **kwargs),
    "random": RandomExplorer,
    **{
        goal: lambda goal=goal, **kwargs: FrontierExplorer(goal=goal, **kwargs)
        for goal in ("frontier", "frontier-heading", "nearest", "infogain")
    },
}


@pytest.fixture(scope="module")
def worlds():
    rng = np.random.default_rng(3)
    return [generate_world(rng, "small") for _ in range(4)]


def make_env(worlds, seed=0, **options):
    env = MapWorldVecEnv(len(worlds), maps=worlds, **{"until_covered": False} | options)
    env.seed(seed)
    return env


class Trace(BaseCallback):
    def _init_callback(self):
        self.poses, self.coverage = [], []

    def _on_step(self):
        worlds = self.training_env.unwrapped.worlds
        self.poses.append(worlds.pose.copy())
        self.coverage.append(worlds.coverage)
        return True


def trace(model, steps, **options):
    recorder = Trace()
    model.learn(steps * model.n_envs, callback=recorder, **options)
    return np.array(recorder.poses), np.array(recorder.coverage)


@pytest.mark.parametrize("name", AGENTS)
def test_every_explorer_repeats_with_its_seed_and_differs_with_another(name, worlds):
    first, second, other = (trace(AGENTS[name](env=make_env(worlds), seed=seed), 150)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


@pytest.mark.parametrize("name", [name for name in AGENTS if name != "random"])
def test_every_planner_covers_small_worlds(name, worlds):
    _, coverage = trace(AGENTS[name](env=make_env(worlds), seed=0), 1500)
    assert coverage[-1].min() > 0.97


def test_planners_cover_far_more_than_a_random_walk(worlds):
    _, planned = trace(FARMap(env=make_env(worlds), seed=0), 300)
    _, random = trace(RandomExplorer(env=make_env(worlds), seed=0), 300)
    assert planned[-1].mean() > random[-1].mean() + 0.3


@pytest.mark.parametrize("name", AGENTS)
def test_a_saved_explorer_continues_exactly(name, worlds, tmp_path):
    env = make_env(worlds)
    model = AGENTS[name](env=env, seed=1)
    trace(model, 200)
    model.save(tmp_path / "agent")
    twin_env = copy.deepcopy(env)
    expected, _ = trace(model, 200, reset_num_timesteps=False)
    loaded = type(model).load(tmp_path / "agent", env=twin_env, force_reset=False)
    continued, _ = trace(loaded, 200, reset_num_timesteps=False)
    np.testing.assert_array_equal(continued, expected)
    assert loaded.explorers.fragments == model.explorers.fragments


def test_explorers_do_in_a_batch_what_they_do_alone(worlds):
    model = FARMap(env=make_env(worlds), seed=1)
    streams = model.explorers.random.copy()
    together, _ = trace(model, 300)
    for i, world in enumerate(worlds):
        model = FARMap(env=make_env([world]), seed=1)
        model.env.seed(1 + i)
        model.explorers.random[:] = streams[i]
        alone, _ = trace(model, 300)
        np.testing.assert_array_equal(alone[:, 0], together[:, i])


def test_farmap_fragments_and_recalls_with_a_small_active_memory(worlds):
    model = FARMap(env=make_env(worlds), seed=0)
    one_map = FrontierExplorer(env=make_env(worlds), seed=0)
    trace(model, 2000)
    trace(one_map, 2000)
    assert model.explorers.fragments > len(worlds)
    assert model.explorers.recalls > 0
    assert model.explorers.active_memory.sum() < one_map.explorers.active_memory.sum()


def test_without_a_criterion_farmap_is_the_frontier_explorer(worlds):
    plain, _ = trace(FARMap(env=make_env(worlds), criterion="none", leave_below=0.0, seed=1), 400)
    frontier, _ = trace(FrontierExplorer(env=make_env(worlds), seed=1), 400)
    np.testing.assert_array_equal(plain, frontier)


def test_a_capacity_bounds_the_stored_fragments(worlds):
    model = FARMap(env=make_env(worlds), criterion="uniform", every=20, capacity=5, seed=0)
    trace(model, 1500)
    assert model.explorers.fragments > 100
    assert len(model.explorers.memory) <= 5 * len(worlds)


def test_a_new_episode_starts_with_an_empty_memory(worlds):
    model = FARMap(env=make_env(worlds, max_steps=100), criterion="uniform", every=30, seed=0)
    trace(model, 100)
    assert len(model.explorers.memory) > len(worlds)
    trace(model, 1, reset_num_timesteps=False)
    assert len(model.explorers.memory) == len(worlds)


def test_predict_keeps_a_memory_of_its_own_and_evaluates(worlds):
    env = make_env(worlds, max_steps=400)
    model = FARMap(env=env, seed=0)
    mean, _ = evaluate_policy(model, make_env(worlds, max_steps=400), n_eval_episodes=4, warn=False)
    assert mean > 0.8
    again, _ = evaluate_policy(model, make_env(worlds, max_steps=400), n_eval_episodes=4, warn=False)
    assert again == pytest.approx(mean, abs=0.1)
    assert model.explorers.fragments == 0


def test_predict_takes_a_single_observation(worlds):
    env = MapWorldEnv(maps=worlds[0], max_steps=300)
    model = FARMap(env=MapWorldEnv(maps=worlds[0]), seed=0)
    observation, _ = env.reset(seed=0)
    total, done, state, start = 0.0, False, None, np.array([True])
    while not done:
        action, state = model.predict(observation, state, start)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, done, start = total + reward, terminated or truncated, np.array([False])
    assert total > 0.8


def test_callbacks_and_logger_work_as_with_any_algorithm(worlds, tmp_path):
    model = FARMap(env=make_env(worlds, max_steps=50), seed=0, tensorboard_log=str(tmp_path / "tb"))
    callbacks = [
        CheckpointCallback(500, str(tmp_path / "checkpoints")),
        EvalCallback(
            DummyVecEnv([lambda: MapWorldEnv(maps=worlds[0], max_steps=50)]),
            eval_freq=600,
            n_eval_episodes=1,
            warn=False,
            verbose=0,
        ),
    ]
    model.learn(1200 * model.n_envs, callback=callbacks, log_interval=1)
    assert len(list((tmp_path / "checkpoints").glob("*.zip"))) == 2
    assert list((tmp_path / "tb").rglob("events*"))
    assert model.num_timesteps == 1200 * model.n_envs
    assert callbacks[1].last_mean_reward > 0


def test_explorers_refuse_what_is_no_map_world():
    with pytest.raises(ValueError, match="explores map worlds"):
        FARMap(env="CartPole-v1")


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "zcore"},
        {"epsilon": 0.0},
        {"capacity": 1},
        {"gamma": 1.5},
        {"surprisal": "never"},
        {"probability": 2.0, "criterion": "random"},
    ],
)
def test_settings_that_cannot_be_are_refused(options, worlds):
    with pytest.raises(ValueError, match=r".+"):
        FARMap(env=make_env(worlds), **options)


@pytest.fixture(scope="module")
def medium_worlds():
    rng = np.random.default_rng(5)
    return [generate_world(rng, "medium") for _ in range(6)]


def test_farmap_plus_covers_as_the_global_explorer_does_with_a_fraction_of_its_memory(medium_worlds):
    one_map = FrontierExplorer(env=make_env(medium_worlds), goal="infogain", seed=0)
    _, best = trace(one_map, 1200)
    plus = FARMapPlus(env=make_env(medium_worlds), largest=700, smallest=350, seed=0)
    _, coverage = trace(plus, 1200)
    assert coverage.mean() > best.mean() - 0.03
    assert coverage[-1].min() > 0.99
    assert plus.explorers.active_memory.max() < 1_500
    assert plus.explorers.active_memory.mean() < one_map.explorers.active_memory.mean() / 3


def test_farmap_plus_never_turns_back_and_forth_between_fragments(medium_worlds):
    plus = FARMapPlus(env=make_env(medium_worlds), largest=500, smallest=250, seed=0)
    trace(plus, 2_000)
    assert plus.explorers.recalls < 3 * plus.explorers.fragments


def test_farmap_plus_goes_on_when_its_capacity_makes_it_forget(medium_worlds):
    plus = FARMapPlus(env=make_env(medium_worlds), largest=300, smallest=150, capacity=4, seed=0)
    poses, coverage = trace(plus, 1_500)
    assert len(plus.explorers.memory) <= 4 * len(medium_worlds)
    assert coverage[-1].mean() > 0.5
    assert (np.abs(np.diff(poses[-300:], axis=0)).sum(axis=(0, 2)) > 0).all()


@pytest.mark.parametrize("name", ["farmap", "farmap-plus", "infogain"])
def test_what_is_explored_is_drawn_whichever_world_the_episode_is_in(name, worlds, tmp_path):
    model = AGENTS[name](env=make_env(worlds, max_steps=120))
    assert model.draw_map() is None
    model.learn(150 * model.n_envs, callback=ExplorationCallback(tmp_path))
    assert (tmp_path / "map.png").exists()
    last, way = model._episode.last, model._episode
    assert last.complete
    assert len(last.way) == 120
    assert "last complete episode: 120 steps" in " ".join(text.get_text() for text in model.draw_map().texts)
    assert len(way.way) == 30  # of the second episode
    rows, cols = way.way.T
    assert not way.walls[rows, cols].any()
    start = model.env.worlds.pose[0, :2] - model.env.worlds.odometry[0, :2]
    assert way.start == tuple(start)
    assert not last.walls[tuple(last.way.T)].any()


def test_a_random_walk_remembers_nothing_that_could_be_drawn(worlds, tmp_path):
    RandomExplorer(env=make_env(worlds)).learn(100, callback=ExplorationCallback(tmp_path))
    assert not (tmp_path / "map.png").exists()


def test_a_criterion_that_farmap_does_not_take_is_refused_by_name():
    for criterion in ("cusum", "zscor"):
        with pytest.raises(ValueError, match=r"criterion must be one of zscore, .*; got"):
            FARMap(env=MapWorldVecEnv(1), criterion=criterion)
