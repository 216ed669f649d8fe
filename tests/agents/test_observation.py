import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from farl.agents.explorer import unpack
from farl.agents.farmap import FARMap
from farl.agents.observation import LOOKAHEAD, TURNS, EgocentricObservation, FARMapObservation
from farl.envs.map_world import MapWorldEnv, MapWorldVecEnv, generate_world
from farl.errors import ConfigError
from farl.experiment.evaluation import evaluate
from farl.experiment.loading import load_config
from farl.experiment.recording import record
from farl.experiment.run import resume, train
from farl.experiment.run_directory import RunDirectory
from farl.maps.geometry import FREE, RIGHT_COLS, RIGHT_ROWS, STEP_COLS, STEP_ROWS, UNKNOWN

AHEAD, BACK, LEFT, RIGHT = range(4)


@pytest.fixture(scope="module")
def worlds():
    rng = np.random.default_rng(3)
    return [generate_world(rng, "small") for _ in range(4)]


def make_env(worlds, **options):
    return MapWorldVecEnv(len(worlds), maps=worlds, **{"until_covered": False} | options)


def test_turns_are_relative_to_the_heading():
    for heading in range(4):
        steps = [np.array([STEP_ROWS[h], STEP_COLS[h]]) for h in TURNS[heading]]
        np.testing.assert_array_equal(steps[AHEAD], [STEP_ROWS[heading], STEP_COLS[heading]])
        np.testing.assert_array_equal(steps[BACK], -steps[AHEAD])
        np.testing.assert_array_equal(steps[RIGHT], [RIGHT_ROWS[heading], RIGHT_COLS[heading]])
        np.testing.assert_array_equal(steps[LEFT], -steps[RIGHT])


def test_whoever_follows_the_advice_walks_as_farmap_itself(worlds):
    """The memory inside is FARMap's own, through fractures, recalls and new episodes alike."""
    env = FARMapObservation(make_env(worlds, max_steps=250))
    env.seed(5)
    env.reset()
    followed = []
    for _ in range(600):
        env.step(env.advice)
        followed.append(env.unwrapped.worlds.pose.copy())
    own = make_env(worlds, max_steps=250)
    agent = FARMap(env=own, seed=5)
    walked = []
    observation, starts, state = own.reset(), np.ones(len(worlds), bool), None
    for _ in range(600):
        actions, state = agent.predict(observation, state, starts)
        observation, _, starts, _ = own.step(actions)
        walked.append(own.worlds.pose.copy())
    np.testing.assert_array_equal(followed, walked)
    assert env.explorers.fragments > 0


def test_the_map_is_the_agents_own_turned_to_its_heading(worlds):
    env = FARMapObservation(make_env(worlds), map_size=9)
    env.seed(0)
    observation = env.reset()
    rng = np.random.default_rng(0)
    headings = set()
    for _ in range(60):
        maps = env.explorers.maps
        for e in range(len(worlds)):
            row, col, heading = maps.pose[e]
            headings.add(int(heading))
            square = maps.label[e, row - 4 : row + 5, col - 4 : col + 5]
            square = np.rot90(square, {0: 0, 1: 2, 2: -1, 3: 1}[int(heading)])
            free, wall, frontier, confidence = observation["map"][e]
            np.testing.assert_array_equal(free == 1, square == FREE)
            np.testing.assert_array_equal(wall == 1, (square != FREE) & (square != UNKNOWN))
            assert not (frontier.astype(bool) & (square != UNKNOWN)).any()
            assert not (confidence.astype(bool) & (square == UNKNOWN)).any()
            assert free[4, 4] == 1
        assert env.observation_space["map"].contains(observation["map"][0])
        observation, _, _, _ = env.step(rng.integers(4, size=len(worlds)))
    assert headings == {0, 1, 2, 3}


def test_confidence_is_highest_in_view_and_fades_behind(worlds):
    env = FARMapObservation(make_env(worlds[:1], max_steps=10_000), map_size=31)
    env.seed(0)
    env.reset()
    for _ in range(30):
        observation, _, _, _ = env.step(env.advice)
    known = observation["map"][0, :2].any(axis=0)
    confidence = observation["map"][0, 3]
    assert confidence[:15][known[:15]].mean() > confidence[16:][known[16:]].mean()


def test_the_subgoal_points_along_the_plan_and_survives_a_policy_of_its_own(worlds):
    env = FARMapObservation(make_env(worlds))
    env.seed(0)
    observation = env.reset()
    rng = np.random.default_rng(1)
    told = 0
    for step in range(200):
        subgoal, advice = observation["subgoal"], env.advice.copy()
        assert env.observation_space["subgoal"].contains(subgoal[0])
        for e in np.flatnonzero(subgoal[:, 4]):
            told += 1
            end = env.explorers.maps.label[e, *(env._ahead[e, 2:4] + env.explorers.maps.origin[e])]
            assert end in (FREE, UNKNOWN)  # unknown only to a fragment that was opened on the way
            left = subgoal[e, 4] * 20 / (1 - subgoal[e, 4])
            assert left == pytest.approx(round(left), abs=1e-3)
            assert np.abs(subgoal[e, :2]).sum() * LOOKAHEAD <= min(left, LOOKAHEAD) + 1e-3
            if round(left) == 1:
                one_step = {AHEAD: (1, 0), BACK: (-1, 0), LEFT: (0, -1), RIGHT: (0, 1)}[int(advice[e])]
                np.testing.assert_allclose(subgoal[e, 2:4], one_step, atol=1e-6)
        actions = rng.integers(4, size=len(worlds)) if step % 2 else advice
        observation, _, _, _ = env.step(actions)
    assert told > 600


def test_a_wandering_policy_keeps_getting_subgoals(worlds):
    env = FARMapObservation(make_env(worlds, max_steps=200))
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(2)
    told = [env.step(rng.integers(4, size=len(worlds)))[0]["subgoal"][:, 4] > 0 for _ in range(400)]
    assert np.mean(told) > 0.9


@pytest.mark.parametrize("wrapper", [EgocentricObservation, FARMapObservation])
def test_an_episode_ends_with_its_own_last_observation_and_the_next_starts_with_an_empty_memory(wrapper, worlds):
    env = wrapper(make_env(worlds, max_steps=40), coverage_reward=1.0)
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(40):
        observation, _, dones, infos = env.step(rng.integers(4, size=len(worlds)))
    assert dones.all()
    for e, info in enumerate(infos):
        last = info["terminal_observation"]
        assert env.observation_space.contains(last)
        assert info["TimeLimit.truncated"]
        assert env.observation_space.contains({key: value[e] for key, value in observation.items()})
    if wrapper is FARMapObservation:
        for last in [info["terminal_observation"] for info in infos]:
            # The map's upper half begins 10 cells ahead, the view 14; the map is 3 cells wider on each side.
            assert (last["map"][:2, :11, 3:18] >= last["view"][:, 4:]).all()
        known = [info["terminal_observation"]["map"][:2].sum() for info in infos]
        raw = observation["map"][:, :2].sum(axis=(1, 2, 3))
        assert np.mean(raw) < np.mean(known)
        codes, _ = unpack({"view": env.unwrapped._look(slice(None))["view"], "odometry": env.unwrapped.worlds.odometry})
        np.testing.assert_array_equal(env.explorers.maps.n_free, (codes == FREE).sum(axis=(1, 2)))
        assert len(env.explorers.memory) == len(worlds)


def test_the_coverage_reward_counts_every_cell_once(worlds):
    env = EgocentricObservation(make_env(worlds, max_steps=80), coverage_reward=0.5)
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(2):
        seen = [env.unwrapped.worlds.seen(e).sum() for e in range(len(worlds))]
        total = np.zeros(len(worlds))
        for _ in range(79):
            total += env.step(rng.integers(4, size=len(worlds)))[1]
        counted = [env.unwrapped.worlds.seen(e).sum() for e in range(len(worlds))]
        gained = np.array(counted) - seen
        # Corners of walls are seen too, and do not count as the world's coverage.
        assert (total >= 0.5 * gained).all()
        assert (total <= 0.6 * gained + 5).all()
        _, rewards, dones, _ = env.step(rng.integers(4, size=len(worlds)))
        assert dones.all()
        assert (rewards < 0.5 * 100).all()


def test_without_a_coverage_reward_the_environments_is_kept(worlds):
    env, plain = FARMapObservation(make_env(worlds)), make_env(worlds)
    for each in (env, plain):
        each.seed(0)
        each.reset()
    for _ in range(20):
        steps = TURNS[plain.worlds.pose[:, 2], env.advice]
        np.testing.assert_array_equal(env.step(env.advice)[1], plain.step(steps)[1])


def test_ppo_trains_evaluates_saves_and_goes_on_alike(worlds, tmp_path):
    def make(seed):
        env = FARMapObservation(make_env(worlds, max_steps=60), coverage_reward=0.01)
        env.seed(seed)
        return env

    callback = EvalCallback(make(1), eval_freq=64, n_eval_episodes=4, verbose=0, warn=False)
    model = PPO("MultiInputPolicy", make(0), n_steps=32, batch_size=64, n_epochs=1, seed=0, device="cpu")
    model.learn(512, callback=callback)
    assert np.isfinite(callback.last_mean_reward)
    expected = evaluate_policy(model, make(7), n_eval_episodes=8, return_episode_rewards=True)
    assert expected[1] == [60] * 8
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=make(0), device="cpu")
    assert evaluate_policy(loaded, make(7), n_eval_episodes=8, return_episode_rewards=True) == expected
    loaded.learn(128)


def test_training_repeats_with_its_seed_also_behind_vec_normalize(worlds):
    def train():
        env = VecNormalize(FARMapObservation(make_env(worlds, max_steps=50)), norm_obs=False)
        model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=64, n_epochs=1, seed=3, device="cpu").learn(256)
        return [parameter.detach().numpy().copy() for parameter in model.policy.parameters()]

    for first, second in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_it_takes_worlds_of_their_own_as_well_as_batched_ones(worlds):
    batched = FARMapObservation(make_env(worlds, max_steps=50))
    single = FARMapObservation(
        DummyVecEnv(
            [lambda world=world: MapWorldEnv(maps=world, max_steps=50, until_covered=False) for world in worlds]
        )
    )
    for env in (batched, single):
        env.seed(4)
    first, second = batched.reset(), single.reset()
    for _ in range(120):
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])
        first, second = (env.step(env.advice)[0] for env in (batched, single))


def test_what_cannot_be_is_refused(worlds):
    with pytest.raises(ConfigError, match="explores map worlds"):
        FARMapObservation(DummyVecEnv([lambda: __import__("gymnasium").make("CartPole-v1")]))
    with pytest.raises(ValueError, match="must be odd"):
        FARMapObservation(make_env(worlds), map_size=8)
    with pytest.raises(ValueError, match="epsilon"):
        FARMapObservation(make_env(worlds), settings={"epsilon": -1})


def test_the_shipped_ppo_configs_run_from_yaml_and_differ_by_the_memory_alone(tmp_path):
    overrides = [
        "total_timesteps=64",
        "environment.n_envs=2",
        "environment.kwargs.max_steps=20",
        "algorithm.hyperparameters={n_steps: 32, batch_size: 64}",
    ]
    with_memory, without = (load_config(name, overrides) for name in ("farmap_ppo", "farmap_ppo_baseline"))
    assert [wrapper.name for wrapper in with_memory.environment.vec_wrappers] == ["FARMapObservation"]
    assert [wrapper.name for wrapper in without.environment.vec_wrappers] == ["EgocentricObservation"]
    rewards = [config.environment.vec_wrappers[0].kwargs["coverage_reward"] for config in (with_memory, without)]
    assert rewards[0] == rewards[1]
    kept = {"name": "", "environment": with_memory.environment.model_copy(update={"vec_wrappers": []})}
    assert with_memory.model_copy(update=kept) == without.model_copy(update=kept)
    assert train(with_memory, tmp_path)["total_timesteps"] == 64
    run = RunDirectory(tmp_path)
    assert evaluate(run, episodes=2, deterministic=False, seed=0).lengths == [20, 20]
    assert record(run, tmp_path / "agent.gif", 1, deterministic=False, seed=0).frames == 21
    assert resume(tmp_path, total_timesteps=128)["total_timesteps"] == 128
