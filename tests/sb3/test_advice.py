import pickle
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from farl import FAR, FARVecEnv
from farl.envs.room_chain import RoomChainVecEnv
from farl.errors import ConfigError
from farl.recognition import PlaceGraph
from farl.sb3.advice import AdvisedFeatures, no_advice, with_advice, without_advice

LED: dict[str, Any] = {
    "module": {"name": "recognition", "graph": {}, "calibration": 64, "features": 16, "hidden": 16},
    "criterion": None,
    "warmup": 32,
}


def make(algorithm: Any = PPO, policy: str = "MlpPolicy", env: Any = None, **settings: Any) -> Any:
    settings = {"n_steps": 16, "batch_size": 32, "n_epochs": 2} | settings
    env = RoomChainVecEnv(4, cols=3, max_steps=20) if env is None else env
    return FAR(algorithm)(policy, env, seed=0, device="cpu", far=LED, **settings)


class Pictures(gym.Env[Any, Any]):
    """A row of eight places, each with a picture; actions move along it."""

    def __init__(self, kind: str) -> None:
        self.kind, self.at, self.steps = kind, 0, 0
        image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
        vector = spaces.Box(0, 1, (8,), np.float32)
        self.observation_space = {
            "image": image,
            "vector": vector,
            "dict": spaces.Dict({"one": vector, "two": spaces.Discrete(8)}),
            "number": spaces.Discrete(8),
            "one": spaces.Dict({"observation": vector}),
            "own": spaces.Dict({"advice": vector}),
        }[kind]
        self.action_space = spaces.Box(-1, 1, (1,)) if kind == "vector" else spaces.Discrete(2)
        self.pictures = np.random.default_rng(0).integers(256, size=(8, 3, 36, 36), dtype=np.uint8)

    def look(self) -> Any:
        one = np.eye(8, dtype=np.float32)[self.at]
        return {
            "image": self.pictures[self.at],
            "vector": one,
            "dict": {"one": one, "two": self.at},
            "number": self.at,
            "one": {"observation": one},
            "own": {"advice": one},
        }[self.kind]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.steps = 0, 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        onwards = action > 0 if self.kind != "vector" else action[0] > 0
        self.at, self.steps = (self.at + (1 if onwards else -1)) % 8, self.steps + 1
        return self.look(), 0.0, False, self.steps >= 15, {}


def pictures(kind: str, n_envs: int = 1) -> DummyVecEnv:
    return DummyVecEnv([lambda: Pictures(kind)] * n_envs)


def test_advice_reaches_the_policy_and_the_agent_follows() -> None:
    model = make()
    model.learn(256)
    advice = model.rollout_buffer.observations["advice"]
    assert advice.any(axis=-1).mean() > 0.9
    actions = model.rollout_buffer.actions[..., 0].astype(int)
    followed = np.take_along_axis(advice, actions[..., None], axis=-1)[..., 0][advice.any(axis=-1)]
    assert followed.mean() > 0.8  # e^3 against two others, and where several are advised more
    assert float(model.policy.prior.detach()) == pytest.approx(3.0, abs=0.2)


def test_the_advice_in_an_observation_is_the_one_of_its_step() -> None:
    class Compare(BaseCallback):
        told: ClassVar[list[Any]] = []

        def _on_step(self) -> bool:
            told = self.model.curiosity.module.advice  # type: ignore[attr-defined]
            assert (self.locals["new_obs"]["advice"] == told).all()
            self.told.append(told)
            return True

        def _on_rollout_end(self) -> None:
            stored = self.model.rollout_buffer.observations["advice"]  # type: ignore[attr-defined]
            assert (stored[1:] == np.array(self.told[-16:-1])).all()

    make().learn(256, callback=Compare())
    assert np.any(Compare.told)


@pytest.mark.parametrize("kind", ["image", "vector", "dict", "number", "one"])
def test_every_kind_of_observation_and_action_can_be_advised(kind: str, tmp_path: Path) -> None:
    policy = {"image": "CnnPolicy", "dict": "MultiInputPolicy", "one": "MultiInputPolicy"}.get(kind, "MlpPolicy")
    model = make(policy=policy, env=pictures(kind, 2))
    model.learn(128)
    assert len(model.curiosity.module.places) == 8
    model.save(tmp_path / "model")
    again = FAR(PPO).load(tmp_path / "model", env=pictures(kind, 2))
    env = Pictures(kind)
    observation, _ = env.reset()
    assert (
        again.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    ).all()
    again.learn(64, reset_num_timesteps=False)
    plain = model.plain()
    assert (
        plain.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    ).all()
    assert type(plain.policy.mlp_extractor.policy_net) is type(model.policy.mlp_extractor.policy_net)
    assert len(plain.policy.mlp_extractor.policy_net) == len(model.policy.mlp_extractor.policy_net)


def test_observations_with_an_advice_of_their_own_are_led_by_none() -> None:
    env = pictures("own")
    model: Any = FAR(PPO)("MultiInputPolicy", env, far={}, n_steps=16, batch_size=16, device="cpu")  # type: ignore[call-arg]
    assert not model.learn(32).n_advised
    with pytest.raises(ConfigError, match="'advice' already"):
        make(policy="MultiInputPolicy", env=env)


class Masked(Pictures):
    """Pictures of which only the way onwards is open."""

    def action_masks(self) -> list[bool]:
        return [False, True]


def test_nothing_is_advised_that_is_masked() -> None:
    from sb3_contrib import MaskablePPO

    model = make(MaskablePPO, env=DummyVecEnv([lambda: Masked("number")] * 2)).learn(160)
    free = make(MaskablePPO, env=pictures("number", 2)).learn(160, use_masking=False)
    assert not model.rollout_buffer.observations["advice"][..., 0].any()
    assert free.rollout_buffer.observations["advice"][..., 0].any()


class Barred(Pictures):
    """Pictures of which only the way onwards is open; at the end of the row all that can be done is nothing."""

    def __init__(self) -> None:
        super().__init__("number")
        self.action_space = spaces.Discrete(3)

    def action_masks(self) -> list[bool]:
        return [False, self.at < 7, self.at == 7]

    def step(self, action: Any) -> Any:
        assert self.action_masks()[int(action)]
        self.at -= int(action == 2)
        return super().step(1)


def test_what_is_masked_is_no_reason_to_go_there() -> None:
    from sb3_contrib import MaskablePPO

    model = make(MaskablePPO, env=DummyVecEnv([Barred] * 2)).learn(480)
    module = model.curiosity.module
    known = len(module.places)
    assert known == 8
    assert (module.graph.successor[:known] >= 0).all()  # nothing is left to be tried, and nobody is sent anywhere
    assert (module.advice == 0).all()


def test_an_action_that_was_barred_is_untried_once_it_is_open() -> None:
    graph = PlaceGraph(2)
    graph.make_room(2)
    here = np.array([0, -1])
    graph.close(here, np.array([[True, False], [False, False]]))
    assert graph.successor[:2].tolist() == [[-1, 0], [-1, -1]]
    graph.close(here, np.ones((2, 2), bool))
    assert (graph.successor[:2] == -1).all()
    graph.close(here, np.zeros((2, 2), bool))
    graph.record(np.array([0]), np.array([1]), np.array([1]), 2)  # somebody took it all the same
    assert graph.successor[0].tolist() == [0, 1]


def test_environments_in_processes_of_their_own_are_advised() -> None:
    env = SubprocVecEnv([partial(Pictures, "number")] * 2)
    try:
        model = make(env=env).learn(160)
    finally:
        env.close()
    assert model.n_advised == 2


class Narrow(ActorCriticPolicy):
    """A policy of someone's own, with arguments and features of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, features_extractor_class=FlattenExtractor, net_arch=[8])


@pytest.mark.parametrize("settings", [{}, {"use_sde": True}, {"policy_kwargs": {"share_features_extractor": False}}])
def test_policies_of_any_form_take_advice(settings: dict[str, Any]) -> None:
    policy: Any = "MlpPolicy" if "policy_kwargs" in settings else Narrow
    led = make(policy=policy, env=pictures("vector"), **settings).learn(144)
    assert led.rollout_buffer.observations["advice"].any()
    observation = led.env.reset()
    expected = led.predict(observation, deterministic=True)[0]
    assert led.plain().predict(observation, deterministic=True)[0] == pytest.approx(expected, abs=1e-6)


def test_several_choices_at_once_are_advised_as_something_to_be_seen() -> None:
    several = pictures("dict")
    several.action_space = spaces.MultiDiscrete([2, 2])
    model = make(policy="MultiInputPolicy", env=several)
    assert model.policy.observation_space["advice"].shape == (4,)
    model.predict(several.reset())


def test_the_policy_itself_takes_observations_as_they_are() -> None:
    model = make().learn(64)
    env = RoomChainVecEnv(2, cols=3, max_steps=20)
    observations = env.reset()
    assert (
        model.policy.predict(observations, deterministic=True)[0] == model.predict(observations, deterministic=True)[0]
    ).all()
    assert model.policy.predict_values(model.policy.obs_to_tensor(observations)[0]).shape == (2, 1)
    evaluate_policy(model.policy, env, n_eval_episodes=2, warn=False)


def test_an_advised_model_can_be_pickled() -> None:
    model = make(env=pictures("number")).learn(64)
    again = pickle.loads(pickle.dumps(model))
    assert type(again.policy) is type(model.policy)
    observation = model.env.reset()
    assert again.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_critics_of_the_plain_model_see_the_actions(algorithm: Any) -> None:
    model: Any = FAR(algorithm)("MlpPolicy", pictures("vector"), far=LED, device="cpu", learning_starts=200, seed=0)
    plain, seen, action = model.plain(), torch.rand(5, 8), torch.rand(5, 1) * 2 - 1
    advised = {"observation": seen, "advice": torch.zeros(5, 2)}
    for one, other in zip(model.critic(advised, action), plain.critic(seen, action), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("n_envs", [1, 6])
def test_it_goes_on_with_another_number_of_environments(n_envs: int, tmp_path: Path) -> None:
    model = make().learn(192)
    places, visits = len(model.curiosity.module.places), model.curiosity.module._visits.counts.sum()
    model.save(tmp_path / "model")
    again = FAR(PPO).load(tmp_path / "model", env=RoomChainVecEnv(n_envs, cols=3, max_steps=20))
    again.learn(16 * n_envs, reset_num_timesteps=False)
    assert len(again.curiosity.module.places) >= places
    assert again.curiosity.module._visits.counts.sum() == visits + 16 * n_envs
    assert again.rollout_buffer.observations["advice"][0].any()  # already of the first step


def test_it_learns_on_as_it_was_saved(tmp_path: Path) -> None:
    model = make()
    model.learn(192)
    model.save(tmp_path / "model")
    again = FAR(PPO).load(tmp_path / "model", env=RoomChainVecEnv(4, cols=3, max_steps=20))
    traces = []
    for each in (model, again):
        set_random_seed(1)
        each.env.seed(5)
        each._last_obs = None
        each.learn(128, reset_num_timesteps=False)
        traces.append((each.rollout_buffer.actions.tolist(), each.rollout_buffer.observations["advice"].tolist()))
    assert traces[0] == traces[1]


def test_evaluation_takes_observations_as_they_are() -> None:
    model = make()
    model.learn(64)
    mean, _ = evaluate_policy(model, RoomChainVecEnv(2, cols=3, max_steps=20), n_eval_episodes=2, warn=False)
    assert mean == 0.0


def test_normalised_observations_are_advised_too() -> None:
    model = make(env=VecNormalize(RoomChainVecEnv(4, cols=3, max_steps=20), norm_reward=False))
    model.learn(256)
    assert model.rollout_buffer.observations["advice"].any()


def test_the_spaces_of_the_model_stay_those_of_the_environment() -> None:
    model = make()
    assert model.observation_space == model.env.observation_space
    assert isinstance(model.policy.features_extractor, AdvisedFeatures)
    assert "features_extractor_class" not in model.policy_kwargs


def test_advice_goes_on_and_comes_off() -> None:
    vector, both = np.zeros((2, 3)), {"one": np.zeros((2, 3)), "two": np.zeros((2, 1))}
    space = spaces.Box(0, 1, (3,))
    parts = spaces.Dict({"one": space, "two": spaces.Box(0, 1, (1,))})
    assert without_advice(with_advice(vector, np.ones((2, 4))), space) is vector
    assert without_advice(with_advice(both, np.ones((2, 4))), parts) == both
    assert without_advice(vector, space) is vector
    own = {"advice": vector}
    assert without_advice(own, spaces.Dict({"advice": space})) is own
    assert no_advice(vector, space, 4)["advice"].shape == (2, 4)
    assert no_advice(vector[0], space, 4)["advice"].shape == (4,)


@pytest.mark.parametrize("name", ["DQN", "SAC", "A2C", "RecurrentPPO", "MaskablePPO", "TRPO"])
def test_other_algorithms_take_advice(name: str, tmp_path: Path) -> None:
    import sb3_contrib
    import stable_baselines3

    algorithm = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    env: Any = RoomChainVecEnv(2, cols=2, max_steps=20)
    if name in ("DQN", "SAC"):
        settings: dict[str, Any] = {"buffer_size": 500, "learning_starts": 140, "batch_size": 16}
    else:
        settings = {"n_steps": 16} | ({} if name == "A2C" else {"batch_size": 32})
    if name in ("RecurrentPPO", "MaskablePPO"):
        settings["n_epochs"] = 1
    settings["policy_kwargs"] = {"net_arch": [16]} | ({"lstm_hidden_size": 16} if name == "RecurrentPPO" else {})
    if name == "SAC":
        env = pictures("vector", 2)
    policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    model: Any = FAR(algorithm)(policy, env, seed=0, device="cpu", far=LED, **settings)
    model.learn(160, **({"use_masking": False} if name == "MaskablePPO" else {}))
    advice = (model.replay_buffer if hasattr(model, "replay_buffer") else model.rollout_buffer).observations["advice"]
    assert advice.any()
    model.save(tmp_path / "model")
    again: Any = FAR(algorithm).load(tmp_path / "model", env=env)
    observation = env.reset()
    plain = model.plain().predict(observation, deterministic=True)[0]
    assert np.array_equal(plain, model.predict(observation, deterministic=True)[0])
    states = (again.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0])
    assert np.array_equal(*states)


def test_advice_beside_normalised_replay_is_refused() -> None:
    plain = RoomChainVecEnv(2, cols=2)
    env = VecNormalize(plain, norm_reward=False)
    with pytest.raises(ConfigError, match="VecNormalize"):
        FAR(DQN)("MlpPolicy", env, far=LED, buffer_size=100, device="cpu")  # type: ignore[call-arg]
    model = FAR(DQN)("MlpPolicy", plain, far=LED, buffer_size=100, device="cpu")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="VecNormalize"):
        model.set_env(env)
    assert model.env is plain


def test_any_learner_gets_the_advice_from_outside() -> None:
    env = FARVecEnv(RoomChainVecEnv(4, cols=3, max_steps=20), far=LED, device="cpu", seed=0)
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=32, n_epochs=1, device="cpu").learn(256)
    assert env.observation_space["advice"].shape == (3,)  # type: ignore[index]
    assert model.rollout_buffer.observations["advice"].any()  # type: ignore[call-overload]
    observations = env.reset()
    assert observations["advice"].any(axis=1).all()  # type: ignore[call-overload, index, union-attr]
    for _ in range(20):
        observations, _, dones, infos = env.step(np.zeros(4, np.int64))
    assert dones.all()
    assert infos[0]["terminal_observation"].keys() == observations.keys()  # type: ignore[union-attr]


class NamedParts(FlattenExtractor):
    """An extractor whose parts have names that a script may ask for."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        self.batch_norm = torch.nn.BatchNorm1d(self.features_dim)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.batch_norm(super().forward(observations)))


def test_parts_of_an_extractor_are_found_by_their_names(tmp_path: Path) -> None:
    model = FAR(PPO)(
        "MlpPolicy", "CartPole-v1", n_steps=32, far={}, policy_kwargs={"features_extractor_class": NamedParts}
    )
    extractor: Any = model.policy.features_extractor
    assert isinstance(extractor, AdvisedFeatures)
    assert extractor.batch_norm is extractor.extractor.batch_norm
    assert not hasattr(extractor, "no_such_part")
    before = extractor.batch_norm.running_mean.clone()
    model.learn(64)
    assert not torch.equal(extractor.batch_norm.running_mean, before)
    model.save(tmp_path / "model")
    again: Any = FAR(PPO).load(tmp_path / "model").policy.features_extractor
    assert torch.equal(again.batch_norm.running_mean, extractor.batch_norm.running_mean)
    assert torch.equal(pickle.loads(pickle.dumps(extractor)).batch_norm.running_mean, extractor.batch_norm.running_mean)
