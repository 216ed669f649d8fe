"""Files, pickles and settings of FAR's models."""

import copy
import pickle

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from farl import FAR, FARConfig
from farl.errors import ConfigError
from farl.sb3.fast import Fast
from farl.sb3.replay import BonusReplay
from tests.sb3.toy import FAR_SMALL, Toy, make_toy

SMALL = {
    PPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
    A2C: {"n_steps": 16},
    DQN: {"learning_starts": 16, "buffer_size": 200, "train_freq": 8},
    SAC: {"learning_starts": 16, "buffer_size": 200, "train_freq": 8, "batch_size": 8},
}
ALGORITHMS = list(SMALL)


def env_for(algorithm, **settings):
    return make_toy(action="continuous" if algorithm is SAC else "discrete", **settings)


def make(algorithm, far=FAR_SMALL, env=None):
    env = env or env_for(algorithm)
    kwargs = {} if far == "plain" else {"far": far}
    made = algorithm if far == "plain" else FAR(algorithm)
    return made("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu", **SMALL[algorithm], **kwargs)


@pytest.fixture(params=ALGORITHMS, ids=lambda algorithm: algorithm.__name__)
def algorithm(request):
    return request.param


@pytest.fixture
def saved(algorithm, tmp_path):
    model = make(algorithm, FAR_SMALL | {"intrinsic_coef": 0.7, "epochs": 2}).learn(64)
    model.save(tmp_path / "far.zip")
    return model, tmp_path / "far.zip"


def test_settings_that_load_is_given_change_and_all_others_stay(algorithm, saved):
    model, path = saved
    far = {"intrinsic_coef": 0.1, "criterion": {"threshold": 3}, "memory": {"capacity": 99}}
    loaded = FAR(algorithm).load(path, env=env_for(algorithm), device="cpu", far=far)
    expected = copy.deepcopy(model.far)
    expected["intrinsic_coef"], expected["criterion"]["threshold"], expected["memory"]["capacity"] = 0.1, 3.0, 99
    assert loaded.far == expected
    assert loaded.curiosity.samples_seen == 64
    config = FARConfig(intrinsic_coef=0.1)
    assert FAR(algorithm).load(path, device="cpu", far=config).far == model.far | {"intrinsic_coef": 0.1}
    assert FAR(algorithm).load(path, device="cpu").far == model.far
    if hasattr(loaded, "replay_buffer"):
        model.save_replay_buffer(path.parent / "buffer")
        loaded.load_replay_buffer(path.parent / "buffer")
        buffer = loaded.replay_buffer
        np.testing.assert_allclose(buffer.rewards, buffer.extrinsic + 0.1 * buffer.intrinsic, rtol=1e-6)
        assert buffer.intrinsic.any()
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.curiosity.samples_seen == 96


def test_a_criterion_of_another_name_replaces_the_saved_one(saved, algorithm):
    loaded = FAR(algorithm).load(saved[1], env=env_for(algorithm), device="cpu", far={"criterion": "uniform"})
    assert loaded.far["criterion"] == {"name": "uniform", "every": 200}
    loaded.learn(32, reset_num_timesteps=False)
    none = FAR(algorithm).load(saved[1], env=env_for(algorithm), device="cpu", far={"criterion": None})
    assert none.far["criterion"] is None
    none.learn(32, reset_num_timesteps=False)


def test_far_none_goes_on_without_curiosity(algorithm, saved):
    model, path = saved
    loaded = FAR(algorithm).load(path, env=env_for(algorithm), device="cpu", far=None)
    assert loaded.far is None
    assert loaded.curiosity is None
    for name, tensor in model.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], tensor), name
    if hasattr(model, "replay_buffer"):
        model.save_replay_buffer(path.parent / "buffer")
        loaded.load_replay_buffer(path.parent / "buffer")
        assert type(loaded.replay_buffer) is ReplayBuffer
        np.testing.assert_array_equal(loaded.replay_buffer.rewards, model.replay_buffer.extrinsic)
    loaded.learn(32, reset_num_timesteps=False)
    loaded.save(path)
    assert type(algorithm.load(path, device="cpu")) is algorithm  # nothing of FAR is left


def test_a_plain_file_loads_and_its_curiosity_begins_anew(algorithm, tmp_path):
    plain = make(algorithm, "plain").learn(64)
    plain.save(tmp_path / "plain.zip")
    loaded = FAR(algorithm).load(tmp_path / "plain.zip", env=env_for(algorithm), device="cpu", far=FAR_SMALL)
    assert loaded.curiosity.samples_seen == 0
    for name, tensor in plain.policy.state_dict().items():
        assert torch.equal(loaded.policy.state_dict()[name], tensor), name
    loaded.learn(64, reset_num_timesteps=False)
    assert loaded.curiosity.samples_seen == 64
    off = FAR(algorithm).load(tmp_path / "plain.zip", env=env_for(algorithm), device="cpu")
    assert off.far is None
    off.learn(32)


@pytest.mark.parametrize(
    ("far", "match"),
    [
        ({"module": "icm"}, "^far.module.name: the saved model has the module rnd, which cannot go on as icm"),
        ({"module": {"features": 16}}, "^far: the saved curiosity does not fit the settings given"),
        ({"intrinsic_coef": "big"}, "^far.intrinsic_coef: "),
        ({"criterium": {}}, "^far.criterium: unknown key; did you mean criterion"),
    ],
)
def test_what_does_not_go_with_the_file_is_said(algorithm, saved, far, match):
    with pytest.raises(ConfigError, match=match):
        FAR(algorithm).load(saved[1], env=env_for(algorithm), device="cpu", far=far)


def test_the_critic_may_become_the_policys_own_and_back(tmp_path):
    make(PPO).learn(64).save(tmp_path / "own.zip")
    shared = FAR(PPO).load(tmp_path / "own.zip", env=make_toy(), device="cpu", far={"critic": "shared"})
    assert shared.intrinsic_critic is None
    shared.learn(32, reset_num_timesteps=False).save(tmp_path / "shared.zip")
    own = FAR(PPO).load(tmp_path / "shared.zip", env=make_toy(), device="cpu", far={"critic": "own"})
    own.learn(32, reset_num_timesteps=False)
    assert own.curiosity.samples_seen == 128


def test_the_plain_algorithm_says_how_to_load_a_far_file(algorithm, saved):
    with pytest.raises(ConfigError, match=rf"FAR\({algorithm.__name__}\).load.*model.plain\(\)"):
        algorithm.load(saved[1], env=env_for(algorithm), device="cpu")
    model = saved[0]
    assert getattr(model, model.buffer_class_name) in (RolloutBuffer, ReplayBuffer)  # only the file refuses
    model.plain().save(saved[1])
    algorithm.load(saved[1], env=env_for(algorithm), device="cpu").learn(32)


def test_parameters_of_a_plain_model_can_be_set(algorithm):
    plain, curious = make(algorithm, "plain"), make(algorithm).learn(64)
    curious.set_parameters(plain.get_parameters())
    for name, tensor in plain.policy.state_dict().items():
        assert torch.equal(curious.policy.state_dict()[name], tensor), name
    assert curious.curiosity.samples_seen == 64
    curious.set_parameters(curious.get_parameters())
    with pytest.raises(ValueError, match="Names of parameters"):
        curious.set_parameters({"policy": plain.get_parameters()["policy"]})


def test_a_plain_replay_buffer_keeps_refresh_and_is_told_of(tmp_path):
    plain = make(DQN, "plain").learn(48)
    plain.save_replay_buffer(tmp_path / "buffer")
    model = make(DQN, FAR_SMALL | {"refresh": True})
    with pytest.warns(UserWarning, match="48 transitions in it have no bonus"):
        model.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(model.replay_buffer, BonusReplay)
    model.learn(64, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert (buffer.fragments[:24] == -1).all()
    assert (buffer.fragments[24:56] >= 0).all()
    assert not (buffer.intrinsic[:24]).any()


class Blind(ReplayBuffer):
    """Hands out rewards of its own making."""

    def _get_samples(self, batch_inds, env=None):
        rewards, self.rewards = self.rewards, np.zeros((self.buffer_size, self.n_envs), np.float32)
        try:
            return super()._get_samples(batch_inds, env)
        finally:
            self.rewards = rewards


def test_a_buffer_that_hides_its_rewards_is_refused_with_the_way_out():
    model = FAR(DQN)("MlpPolicy", make_toy(), far=FAR_SMALL, replay_buffer_class=Blind, device="cpu", **SMALL[DQN])
    with pytest.raises(ConfigError, match="_normalize_reward"):
        model.learn(64)


# Pickles -------------------------------------------------------------------------------------------------------------


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_goes_on_as_the_model_does(algorithm, copied):
    model = make(algorithm)
    if copied is pickled or algorithm in (DQN, SAC):  # SB3's own cannot be copied so after others learnt
        model.learn(64)
    twin = copied(model)
    assert type(twin) is type(model)
    traces = []
    for each in (model, twin):
        each.set_random_seed(5)
        seen = each.curiosity.samples_seen
        each.learn(64, reset_num_timesteps=False)
        traces.append([tensor.clone() for tensor in each.policy.state_dict().values()])
        assert each.curiosity.samples_seen == seen + 64
    assert all(torch.equal(*pair) for pair in zip(*traces, strict=True))


def test_a_model_with_vec_normalize_is_pickled_as_sb3s_are():
    twin = pickled(make(PPO, env=VecNormalize(make_toy())).learn(32))
    assert twin.get_env().venv is None  # what is inside is left out by VecNormalize itself
    twin.set_env(VecNormalize(make_toy()))
    twin.learn(32)


@pytest.mark.parametrize("made", [FAR(PPO), FAR(SAC), FAR(Fast(PPO))])
def test_classes_can_be_pickled(made):
    assert pickle.loads(pickle.dumps(made)) is made
    assert issubclass(cloudpickle.loads(cloudpickle.dumps(made)), made.__mro__[1])


def test_models_can_be_sent_by_cloudpickle_before_and_after_they_learnt():
    for model in (make(PPO), make(PPO, None), make(DQN).learn(32), FAR(Fast(PPO))("MlpPolicy", make_toy(), far={})):
        again = cloudpickle.loads(cloudpickle.dumps(model))
        assert type(again) is type(model)
        assert again.far == model.far


# What environments return --------------------------------------------------------------------------------------------


class Broken(Toy):
    def __init__(self, what, number):
        super().__init__()
        self.what, self.number = what, number

    def step(self, action):
        observation, reward, *rest = super().step(action)
        if self.number == 1 and self.steps == 5:
            reward = np.nan if self.what == "reward" else reward
            observation[1] = -np.inf if self.what == "observation" else observation[1]
        return observation, reward, *rest


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("stack", [lambda env: env, VecNormalize, lambda env: VecFrameStack(env, 2)])
def test_what_is_not_finite_is_named_with_its_environment(what, stack):
    env = stack(DummyVecEnv([lambda number=number: Broken(what, number) for number in range(2)]))
    with pytest.raises(ConfigError, match=rf"environment 1 returned the {what} (nan|-inf)"):
        make(PPO, env=env).learn(64)
