"""FAR(Algorithm): what users of SB3 expect to go on working."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from farl import FAR, FARConfig
from farl.curiosity.encoders import make_encoder
from farl.curiosity.registry import MODULES
from farl.errors import ConfigError
from farl.sb3.observations import ObservationAdapter
from tests.sb3.rooms import ALGORITHMS, FAR_SMALL, SMALL, Picture, Record, Rooms, make, make_env, parameters_of


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("far", ["left out", None])
def test_switched_off_it_is_bit_identical_to_the_plain_algorithm(algorithm, far):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(400)
    keyword = {} if far == "left out" else {"far": None}
    off = FAR(algorithm)("MlpPolicy", make_env(), seed=3, device="cpu", **keyword, **SMALL[algorithm]).learn(400)
    assert off.curiosity is None
    for name, tensor in parameters_of(plain).items():
        assert torch.equal(tensor, parameters_of(off)[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_watching_without_rewarding_changes_nothing_either(algorithm):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(400)
    watching = make(algorithm, far=FAR_SMALL | {"intrinsic_coef": 0.0}, seed=3).learn(400)
    assert watching.curiosity.samples_seen >= 400
    for name, tensor in parameters_of(plain).items():
        assert torch.equal(tensor, parameters_of(watching)[name]), name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_intrinsic_rewards_the_policy_learns_something_else(algorithm):
    plain = algorithm("MlpPolicy", make_env(), seed=3, device="cpu", **SMALL[algorithm]).learn(800)
    curious = make(algorithm, far=FAR_SMALL, seed=3).learn(800)
    assert curious.curiosity.fragments > 1
    assert any(not torch.equal(tensor, parameters_of(curious)[name]) for name, tensor in parameters_of(plain).items())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loaded_model_gives_the_same_next_200_intrinsic_rewards(algorithm, tmp_path):
    model = make(algorithm).learn(600)
    model.save(tmp_path / "model")
    loaded = FAR(algorithm).load(tmp_path / "model", env=make_env(), device="cpu")
    if algorithm is DQN:  # SB3 keeps the replay buffer in a file of its own
        model.save_replay_buffer(tmp_path / "buffer")
        loaded.load_replay_buffer(tmp_path / "buffer")
    traces = []
    for each in (model, loaded):
        each.set_env(make_env(seed=7))
        each.set_random_seed(11)
        each.exploration_rate = 0.5
        record = Record()
        each.learn(400, reset_num_timesteps=False, callback=record)
        traces.append((np.array(record.rewards)[:200], np.array(record.active)[:200]))
    assert len(traces[0][0]) == 200
    assert (traces[0][0] > 0).any()
    np.testing.assert_array_equal(traces[0][0], traces[1][0])
    np.testing.assert_array_equal(traces[0][1], traces[1][1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_same_seed_gives_the_same_run(algorithm):
    traces = []
    for _ in range(2):
        record = Record()
        make(algorithm, seed=5).learn(500, callback=record)
        traces.append(np.array(record.rewards))
    np.testing.assert_array_equal(*traces)


def test_the_class_is_a_subclass_made_once_and_wrapping_twice_changes_nothing():
    assert FAR(PPO) is FAR(PPO)
    assert FAR(FAR(PPO)) is FAR(PPO)
    assert issubclass(FAR(PPO), PPO)
    assert FAR(PPO).__name__ == "FARPPO"


@pytest.mark.parametrize("wrong", ["PPO", PPO("MlpPolicy", "CartPole-v1", device="cpu"), int])
def test_anything_but_an_algorithm_class_is_refused(wrong):
    with pytest.raises(TypeError, match=r"FAR\(PPO\)"):
        FAR(wrong)


@pytest.mark.parametrize(
    ("far", "match"),
    [
        ({"epochs": "3"}, "^far.epochs: expected a number, found '3'$"),
        ({"epochs": 2.5}, "^far.epochs: expected a whole number, found 2.5$"),
        ({"epochs": True}, "^far.epochs: expected a number, found true$"),
        ({"learning_rate": "1e-3"}, "^far.learning_rate: expected a number, found '1e-3'$"),
        ({"learning_rate": True}, "^far.learning_rate: expected a number, found true$"),
        ({"refresh": 1}, "^far.refresh: expected true or false, found 1$"),
        ({"module": {"hidden": "16"}}, "^far.module.hidden: expected a number, found '16'$"),
        ({"criterion": {"threshold": "5"}}, "far.criterion.threshold"),
        ({"memory": {"capacity": "9"}}, "^far.memory.capacity: expected a number, found '9'$"),
        ({"critic_hidden": ["64"]}, "far.critic_hidden"),
        ({"criterium": {}}, "^far.criterium: unknown key; did you mean criterion"),
        ({"module": {"name": "rdn"}}, "^far.module.name: unknown name 'rdn'; did you mean rnd.$"),
        ({"criterion": {"name": "zscroe"}}, "^far.criterion.name: unknown name 'zscroe'; did you mean zscore"),
        ({"intrinsic_coef": -1}, "^far.intrinsic_coef: must be at least 0, found -1$"),
        ({"memory": {"capacity": 2}}, "^far.memory.capacity: must be more than the . environments, found 2"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        (
            {"module": "rnd", "critic": "shared", "gamma": 0.9, "episodic": True},
            "gamma, episodic: of no effect with critic: shared",
        ),
    ],
)
def test_wrong_settings_are_named(far, match):
    with pytest.raises(ValueError, match=match):
        make(PPO, far=far)


def test_numbers_of_numpy_whole_floats_and_lists_are_taken_for_what_they_are():
    far = {
        "epochs": np.int64(3),
        "batch_size": 64.0,
        "learning_rate": np.float32(0.5),
        "intrinsic_coef": 1,
        "critic_hidden": [8, np.int32(4)],
        "memory": {"capacity": 1e3, "host": None},
        "refresh": np.bool_(False),
    }
    config = FARConfig.parse(far)
    assert (config.epochs, config.batch_size, config.learning_rate, config.critic_hidden) == (3, 64, 0.5, (8, 4))
    assert type(config.batch_size) is type(config.memory.capacity) is int
    assert FARConfig.parse(config.model_dump(mode="json")) == config


def test_far_that_is_no_mapping_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="is the defaults"):
        make(PPO, far=True)


def test_settings_may_be_a_config_object():
    assert make(PPO, far=FARConfig(intrinsic_coef=0.5)).far["intrinsic_coef"] == 0.5


# The traps of SB3 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checkpoints_progress_bar_lists_and_functions_as_callbacks_work(algorithm, tmp_path):
    calls = []
    callbacks = [CheckpointCallback(100, str(tmp_path)), Record()]
    model = make(algorithm)
    model.learn(300, callback=callbacks, progress_bar=True)
    model.learn(100, callback=lambda *_: calls.append(1) or True)
    assert len(calls) > 10
    checkpoint = sorted(tmp_path.glob("*.zip"))[0]
    assert FAR(algorithm).load(checkpoint, device="cpu").curiosity.samples_seen == 200
    mean, _ = evaluate_policy(model, make_env(1), n_eval_episodes=2)
    assert mean >= 0


def test_spaces_that_nothing_can_be_learnt_of_are_refused():
    for space in (spaces.Dict(), spaces.Tuple([spaces.Discrete(2)]), spaces.Dict(a=spaces.Text(3))):
        with pytest.raises(ConfigError, match="observation space"):
            ObservationAdapter(space)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(5),
        spaces.MultiBinary(4),
        spaces.MultiDiscrete([3, 2]),
        spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(-1, 1, (2, 3))),
    ],
)
def test_every_space_that_is_no_image_is_seen_as_a_vector(space):
    class Sampled(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.steps = 0
            return space.sample(), {}

        def step(self, action):
            self.steps += 1
            return space.sample(), 0.0, False, self.steps == 7, {}

    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = FAR(PPO)(policy, Sampled(), far=FAR_SMALL, device="cpu", **SMALL[PPO])
    model.learn(128)
    assert model.curiosity.samples_seen == 128


@pytest.mark.parametrize(
    "position",
    ["here", None, float("nan"), {"x": 1}, [[1, 2], [3]], object(), (), True, torch.ones(2, requires_grad=True)],
    ids=lambda position: type(position).__name__,
)
def test_a_position_that_is_no_number_is_ignored(position):
    class Placed(Rooms):
        def step(self, action):
            *step, _ = super().step(action)
            return *step, {"position": position}

    model = make(PPO, make_vec_env(Placed, n_envs=2, seed=0)).learn(300)
    edges = model.curiosity.memory.graph.edges(data=True)
    assert len(edges)
    assert not any("position" in data for _, _, data in edges)


@pytest.mark.parametrize("position", [2.5, (0.25, 7.0), np.float32(2.5), np.array([1, 2, 3])])
def test_a_position_is_kept_as_it_is(position):
    class Placed(Rooms):
        def step(self, action):
            *step, _ = super().step(action)
            told = {"position": position} if self.np_random.random() < 0.9 else {"position": "lost"}
            return *step, told

    model = make(PPO, make_vec_env(Placed, n_envs=2, seed=0)).learn(600)
    told = [data["position"] for *_, data in model.curiosity.memory.graph.edges(data=True) if "position" in data]
    assert told
    assert all(each == np.asarray(position).tolist() for each in told)


def test_parts_of_a_dict_are_encoded_by_their_kind():
    """Images by convolutions, all numbers together, however deep in dicts."""
    picture, small = spaces.Box(0, 255, (40, 44, 3), np.uint8), spaces.Box(0, 255, (1, 12, 12), np.uint8)
    tiny, numbers = spaces.Box(0, 255, (3, 3, 1), np.uint8), spaces.Box(-9, 9, (2, 2))
    inner = spaces.Dict(number=spaces.Discrete(4), small=small, tiny=tiny)
    space = spaces.Dict(inner=inner, numbers=numbers, picture=picture)
    adapter = ObservationAdapter(space)
    assert adapter.shape.parts == ((4,), (1, 12, 12), (9,), (4,), (3, 40, 44))
    samples = [space.sample() for _ in range(5)]
    batch = {
        "inner": {key: np.stack([each["inner"][key] for each in samples]) for key in inner.spaces},
        "numbers": np.stack([each["numbers"] for each in samples]),
        "picture": np.stack([each["picture"] for each in samples]),
    }
    packed = adapter(batch, "cpu")
    assert packed.shape == (5, *adapter.shape)
    channels_first = torch.as_tensor(batch["picture"]).movedim(-1, 1)
    torch.testing.assert_close(packed[:, -3 * 40 * 44 :].reshape(5, 3, 40, 44), channels_first / 255.0)
    encoder, width = make_encoder(adapter.shape, 16)
    assert encoder(packed).shape == (5, width)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in encoder.modules()) == 3 + 2
    changed = packed.clone()
    changed[:, 5] += 1.0  # a pixel of the small image
    assert (encoder(changed) != encoder(packed)).any()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_takes_images_beside_numbers(name):
    space = spaces.Dict(image=spaces.Box(0, 255, (36, 37, 1), np.uint8), speed=spaces.Box(-1, 1, (2,)))

    class Sampled(Picture):
        observation_space = space

        def _see(self):
            return space.sample()

    module = {"name": name, "calibration": 8} if name == "recognition" else name
    far = {"module": module, "warmup": 8, "batch_size": 16}
    model = FAR(PPO)("MultiInputPolicy", Sampled(), far=far, n_steps=32, batch_size=16, n_epochs=1, device="cpu")
    model.learn(64)
    assert (np.array([step.intrinsic_reward for step in model.curiosity_steps]) > 0).any()


def test_a_space_that_sb3_does_not_take_is_named():
    with pytest.raises(ValueError, match=r"observation space at inner.text: FAR takes .* not Text"):
        ObservationAdapter(spaces.Dict(inner=spaces.Dict(text=spaces.Text(3))))


def test_curiosity_makes_ppo_reach_the_far_room_more_often():
    """Without any extrinsic reward to follow, curiosity alone has to carry the agent over."""

    class Silent(Rooms):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 0.0, *rest

    def share_of_far_room(far):
        visits = []

        class Visits(BaseCallback):
            def _on_step(self):
                visits.extend(info["position"][0] >= 10 for info in self.locals["infos"])
                return True

        env = make_vec_env(Silent, n_envs=8, seed=0)
        model = FAR(PPO)("MlpPolicy", env, n_steps=64, batch_size=128, far=far, seed=0, device="cpu")
        model.learn(15_000, callback=Visits())
        return np.mean(visits)

    assert share_of_far_room(FAR_SMALL) > 3 * share_of_far_room(None)
