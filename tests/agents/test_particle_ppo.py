from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnvMultiBinary, IdentityEnvMultiDiscrete
from stable_baselines3.common.evaluation import evaluate_policy

from farl import FAR
from farl.agents.particle_policy import ActionDistributions
from farl.agents.particle_ppo import ParticlePPO
from farl.envs.control import ControlVecEnv
from farl.errors import ConfigError
from farl.experiment.loading import parse_config
from farl.experiment.run import train
from farl.optimisers import TracAdam
from farl.sb3.networks import ImpalaCNN, LayerNormLeakyReLU

SMALL: dict[str, Any] = {
    "n_steps": 32,
    "batch_size": 32,
    "n_epochs": 2,
    "seed": 3,
    "device": "cpu",
    "backend": "vmap",
    "policy_kwargs": {"net_arch": [16]},
}


def cartpole(n_envs: int = 2) -> ControlVecEnv:
    return ControlVecEnv("CartPole", n_envs, seed=0)


def plain(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "backend"}


@pytest.mark.parametrize("action", ["discrete", "continuous"])
@pytest.mark.parametrize(
    "extra", [{}, {"clip_range_vf": 0.2, "ent_coef": 0.01, "gae_lambda": 0.9}], ids=["plain", "more"]
)
def test_one_particle_is_ppo(action, extra):
    def env() -> Any:
        return cartpole() if action == "discrete" else make_vec_env("Pendulum-v1", 2, seed=0)

    options = SMALL | extra
    reference = PPO("MlpPolicy", env(), **plain(options)).learn(256)
    model = ParticlePPO("MlpPolicy", env(), n_particles=1, **options).learn(256)
    theirs = reference.policy.state_dict()
    for name, value in model.policy.ensemble.parameters.items():
        torch.testing.assert_close(value[0], theirs[name.removeprefix("policy.")], rtol=1e-4, atol=1e-5)
    observation = env().reset()
    np.testing.assert_allclose(
        model.predict(observation, deterministic=True)[0],
        reference.predict(observation, deterministic=True)[0],
        atol=1e-4,
    )


@pytest.mark.parametrize(("acting", "evidence"), [("mixture", "loss"), ("thompson", "policy")])
def test_it_learns_to_balance_and_logs_its_particles(acting, evidence, tmp_path):
    model = ParticlePPO(
        "MlpPolicy",
        cartpole(8),
        n_particles=3,
        acting=acting,
        evidence=evidence,
        learning_rate=3e-3,
        **SMALL | {"n_steps": 64, "batch_size": 128, "n_epochs": 8, "policy_kwargs": {"net_arch": [32]}, "seed": 0},
    )
    evaluation = EvalCallback(cartpole(2), n_eval_episodes=4, eval_freq=320, verbose=0)
    model.learn(5_120, callback=evaluation)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 40
    logged = model.logger.name_to_value
    assert 1.5 - 1e-6 <= logged["particles/ess"] <= 3
    assert 0 < logged["particles/temperature"] <= 1
    assert logged["particles/kl_to_mixture"] >= -1e-3
    assert "particles/return_0" in logged
    assert np.isfinite(evaluation.last_mean_reward)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, TracAdam])
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(optimizer, tmp_path):
    options = SMALL | {"policy_kwargs": {"net_arch": [8], "optimizer_class": optimizer}}
    model = ParticlePPO("MlpPolicy", cartpole(), n_particles=3, acting="thompson", **options).learn(128)
    model.save(tmp_path / "model.zip")
    continued = []
    for held in (model, ParticlePPO.load(tmp_path / "model.zip", env=cartpole(), device="cpu")):
        held.set_env(cartpole(), force_reset=True)
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        held.learn(128, reset_num_timesteps=False)
        continued.append(held.policy)
    for name, value in continued[0].ensemble.parameters.items():
        torch.testing.assert_close(value, continued[1].ensemble.parameters[name])
    torch.testing.assert_close(continued[0].weights.evidence, continued[1].weights.evidence)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, TracAdam])
def test_trac_serves_plain_ppo_and_resumes(optimizer, tmp_path):
    options = plain(SMALL) | {"policy_kwargs": {"optimizer_class": optimizer}}
    model = PPO("MlpPolicy", cartpole(), **options).learn(128)
    model.save(tmp_path / "model.zip")
    results = []
    for held in (model, PPO.load(tmp_path / "model.zip", env=cartpole(), device="cpu")):
        held.set_env(cartpole(), force_reset=True)
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002
        results.append(held.learn(128, reset_num_timesteps=False).policy.state_dict())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])


def test_a_layer_norm_in_the_activation_is_the_formula():
    inputs = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)
    scaled = (inputs - 3.0) / (14.0 / 3.0 + 1e-5) ** 0.5
    torch.testing.assert_close(LayerNormLeakyReLU()(inputs), torch.where(scaled > 0, scaled, 0.01 * scaled))


@pytest.mark.parametrize("env", [IdentityEnvMultiDiscrete(4), IdentityEnvMultiBinary(4)])
def test_other_action_spaces(env):
    model = ParticlePPO("MlpPolicy", env, n_particles=2, **SMALL).learn(64)
    assert env.action_space.contains(model.predict(env.reset()[0], deterministic=True)[0])


@pytest.mark.parametrize(
    "policy_kwargs",
    [{}, {"features_extractor_class": ImpalaCNN, "features_extractor_kwargs": {"channels": (4, 4, 4)}}],
    ids=["nature", "impala"],
)
def test_images(policy_kwargs):
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)
    options = SMALL | {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "policy_kwargs": policy_kwargs}
    model = ParticlePPO("CnnPolicy", env, n_particles=2, **options).learn(16)
    assert len(evaluate_policy(model, model.get_env(), 1, return_episode_rewards=True)[0]) == 1


@pytest.mark.parametrize("activation", [torch.nn.Tanh, LayerNormLeakyReLU])
def test_particles_chunk_by_chunk_are_the_particles_at_once(activation):
    results = []
    for backend in ("vmap", "loop"):
        options = SMALL | {"backend": backend, "policy_kwargs": {"net_arch": [8], "activation_fn": activation}}
        model = ParticlePPO("MlpPolicy", cartpole(), n_particles=3, **options).learn(128)
        results.append(model.policy.ensemble.parameters)
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-3, atol=1e-4)


def test_the_mixtures_log_probability_is_the_log_of_its_mean_probability():
    model = ParticlePPO("MlpPolicy", cartpole(), n_particles=3, beta=5.0, ess_floor=0.0, **SMALL).learn(64)
    observations = torch.randn(6, 4)
    actions, values, log_prob = model.policy(observations)
    outputs, each = model.policy.outputs(observations)
    weights = model.policy.weights.log_weights.exp().float()
    mixture = (weights[:, None, None] * outputs.softmax(-1)).sum(0)
    torch.testing.assert_close(log_prob, mixture.gather(1, actions[:, None]).log()[:, 0])
    torch.testing.assert_close(values[:, 0], (weights[:, None] * each).sum(0))


def test_thompson_keeps_its_particle_through_an_episode():
    model = ParticlePPO("MlpPolicy", cartpole(4), n_particles=3, acting="thompson", **SMALL)
    observation = cartpole(4).reset()
    _, state = model.predict(observation, episode_start=np.ones(4, bool))
    for _ in range(5):
        _, following = model.predict(observation, state, np.zeros(4, bool))
        np.testing.assert_array_equal(following[0], state[0])
    drawn = {int(model.predict(observation, state, np.ones(4, bool))[1][0][0]) for _ in range(30)}
    assert len(drawn) > 1


def test_a_particle_whose_loss_is_not_finite_is_redrawn_and_touches_no_other():
    model = ParticlePPO("MlpPolicy", cartpole(), n_particles=3, **SMALL).learn(64)
    batch = model._batch(next(model.rollout_buffer.get(32)))
    objective = model._objective(0.2, None)
    weights = model.policy.ensemble.parameters["policy.action_net.weight"]
    others = []
    for broken in (False, True):
        before = model.policy.state_dict()
        if broken:
            weights[1] = torch.nan
        model._step(objective, objective, batch)
        others.append(weights[[0, 2]].clone())
        assert all(value.isfinite().all() for value in model.policy.ensemble.parameters.values())
        model.policy.load_state_dict(before)
        model.policy.optimizer.load_state_dict({})
    assert (weights[1] - others[1][1]).abs().max() > 1e-3
    torch.testing.assert_close(others[0], others[1], atol=1e-3, rtol=0)
    for value in model.policy.ensemble.parameters.values():
        value.fill_(torch.nan)
    with pytest.raises(ConfigError, match="every particle is not finite"):
        model._step(objective, objective, batch)


def test_policy_terms_alone_leave_the_values_as_they_were():
    model = ParticlePPO("MlpPolicy", cartpole(), n_particles=2, particle_loss="policy", **SMALL)
    before = model.policy.ensemble.parameters["policy.value_net.weight"].clone()
    model.learn(64)
    torch.testing.assert_close(model.policy.ensemble.parameters["policy.value_net.weight"], before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_particles": 0}, "n_particles must be at least 1"),
        ({"acting": "vote"}, "acting must be 'mixture' or"),
        ({"ess_floor": 2.0}, "ess_floor is a share"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"n_particles": 10**9}, "do not fit into"),
    ],
)
def test_bad_input_is_refused_with_one_line(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParticlePPO("MlpPolicy", cartpole(), **SMALL | arguments)


def test_a_tuple_of_actions_is_refused():
    with pytest.raises(ValueError, match="cannot act in"):
        ActionDistributions(spaces.Tuple((spaces.Discrete(2),)))


def experiment(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "total_timesteps": 128,
        "device": "cpu",
        "environment": {"id": "CartPole", "kind": "control", "n_envs": 2},
        "algorithm": {"name": "ParticlePPO", "hyperparameters": hyperparameters},
    }


def test_it_trains_from_yaml_with_trac():
    settings = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "n_particles": 2, "acting": "map"}
    config = parse_config(experiment(settings | {"policy_kwargs": {"optimizer_class": "TRAC", "net_arch": [8]}}))
    assert train(config)["algorithm"] == "ParticlePPO"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_particles": 0}, "n_particles: must be at least 1"),
        ({"acting": "vote"}, "acting: expected"),
        ({"policy_kwargs": {"optimizer_class": "TRAK"}}, "did you mean TRAC"),
    ],
)
def test_yaml_names_the_key(settings, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(experiment(settings | {"n_steps": 32}))


def test_it_can_be_curious(tmp_path):
    far = {"warmup": 16, "batch_size": 16, "criterion": {"name": "zscore", "threshold": 2.0, "min_samples": 10}}
    model = FAR(ParticlePPO)("MlpPolicy", cartpole(), n_particles=2, far=far, **SMALL).learn(256)
    assert model.curiosity.fragments > 1
    model.save(tmp_path / "curious")
    copy = FAR(ParticlePPO).load(tmp_path / "curious")
    assert copy.curiosity.fragments == model.curiosity.fragments
    assert isinstance(copy.plain(), ParticlePPO)
