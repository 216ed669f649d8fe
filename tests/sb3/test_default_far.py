"""What ``far={}`` is, where the graph can lead and where it cannot."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from farl import FAR, FARVecEnv
from farl.curiosity import ActionSpec
from farl.curiosity.recognition_settings import RecognitionConfig
from farl.errors import ConfigError
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig

SMALL: dict[str, Any] = {"seed": 0, "device": "cpu"}


def parsed(far: dict[str, Any]) -> FARConfig:
    config = FARConfig.parse(far)
    assert config is not None
    return config


@pytest.mark.parametrize("far", [{}, {"intrinsic_coef": 0.5}, {"memory": {"capacity": 50}}, {"critic": "shared"}])
def test_no_module_named_is_recognition_with_its_graph(far: dict[str, Any]) -> None:
    config = parsed(far)
    assert config.module.name == "recognition"
    assert isinstance(config.module, RecognitionConfig)
    assert config.module.graph is not None
    assert config.criterion is None
    assert config.episodic


@pytest.mark.parametrize(
    "far", [{"criterion": "cusum"}, {"recall": None}, {"replay": 100}, {"refresh": True}, {"new_module": "fresh"}]
)
def test_settings_of_learnt_errors_mean_rnd(far: dict[str, Any]) -> None:
    config = parsed(far)
    assert config.module.name == "rnd"
    assert not config.episodic


@pytest.mark.parametrize("module", [None, ["recognition"], 3])
def test_a_module_that_is_no_section_is_refused_in_plain_words(module: Any) -> None:
    with pytest.raises(ConfigError, match="module: expected a section of 'key: value' lines, found"):
        parsed({"module": module})


def test_a_graph_is_left_out_only_where_nobody_asked_for_it() -> None:
    assert parsed({}).without_default_graph().module == RecognitionConfig()
    assert pickle.loads(pickle.dumps(FARConfig())).without_default_graph().module == RecognitionConfig()
    asked = parsed({"module": {"name": "recognition", "graph": {}}})
    assert asked.without_default_graph() is asked


@pytest.mark.parametrize(
    ("algorithm", "env", "leads"),
    [(PPO, "CartPole-v1", True), (A2C, "CartPole-v1", True), (DQN, "CartPole-v1", False), (PPO, "Pendulum-v1", False)],
)
def test_the_graph_leads_on_policy_algorithms_with_discrete_actions(
    algorithm: Any, env: str, leads: bool, tmp_path: Path
) -> None:
    settings = {"n_steps": 8} if algorithm is not DQN else {"learning_starts": 8}
    model = FAR(algorithm)("MlpPolicy", make_vec_env(env, 2), far={}, **settings, **SMALL).learn(32)
    assert bool(model.n_advised) == leads
    model.save(tmp_path / "model")
    again = FAR(algorithm).load(tmp_path / "model", env=make_vec_env(env, 2), device="cpu")
    assert again.n_advised == model.n_advised
    again.learn(32)


def test_it_trains_beside_normalised_replay_and_from_outside() -> None:
    env = VecNormalize(make_vec_env("Pendulum-v1", 2), norm_obs=True)
    FAR(SAC)("MlpPolicy", env, far={}, learning_starts=8, **SMALL).learn(32)
    outside = FARVecEnv(make_vec_env("CartPole-v1", 2), far={}, seed=0)
    PPO("MlpPolicy", outside, n_steps=8, batch_size=16, **SMALL).learn(32)
    assert outside.curiosity is not None
    assert outside.curiosity.samples_seen == 32


@pytest.mark.parametrize(
    ("far", "told"),
    [
        ({"module": "recognition", "learning_rate": 1e-2, "epochs": 3}, "far: learning_rate, epochs: of no effect"),
        ({"module": {"name": "recognition", "pays": "error"}, "learning_rate": 1e-2}, ""),
        ({"module": "rnd", "learning_rate": 1e-2}, ""),
        ({"module": "recognition"}, ""),
    ],
)
def test_settings_of_training_are_said_to_have_no_effect_where_nothing_is_trained(
    far: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    build_curiosity(parsed(far), (3,), ActionSpec(2, discrete=True), 2, "cpu", 0)
    assert caplog.text.count("of no effect") == bool(told)
    assert told in caplog.text
