"""Situations in which a model learns: algorithm x wrapper x space x callback x save and load."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from farl import FAR
from tests.sb3.conveyor import Noise, Shift, WithAction, make_conveyor
from tests.sb3.toy import FAR_SMALL

COEFFICIENTS = {"intrinsic_coef": 0.5, "extrinsic_coef": 0.25}
GAMMA, LAMBDA = 0.9, 0.8


def dict_normalised(env, **settings):
    return VecNormalize(env, norm_obs_keys=["place"], **settings)


STACKS = {
    "none": lambda env: env,
    "rewards": lambda env: VecNormalize(env, norm_obs=False),
    "both": lambda env: VecNormalize(env, norm_reward=True),
    "places": dict_normalised,
    "monitor outside": lambda env: VecMonitor(VecNormalize(env)),
    "check outside": lambda env: VecCheckNan(VecNormalize(env)),
    "shift outside": lambda env: Shift(VecNormalize(env)),
    "noise outside": lambda env: Noise(VecNormalize(env)),
    "action outside": lambda env: WithAction(VecNormalize(env)),
    "frames outside": lambda env: VecFrameStack(VecNormalize(env), 3),
    "frames inside": lambda env: VecNormalize(VecFrameStack(env, 3)),
    "two": lambda env: VecNormalize(VecNormalize(env, norm_reward=False), norm_obs=False),
    "transposed": lambda env: VecTransposeImage(VecNormalize(env, norm_obs=False)),
    "frames of images": lambda env: VecFrameStack(VecTransposeImage(VecNormalize(env, norm_obs=False)), 2),
    "extracted": lambda env: VecExtractDictObs(dict_normalised(env), "place"),
}


class ReadsEachStep(BaseCallback):
    def _on_step(self):
        self.model.take_in()
        return self.model.curiosity.samples_seen == self.num_timesteps


class StopsAt(BaseCallback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        return self.num_timesteps < self.step


def evaluates(kind, action, stack):
    return EvalCallback(STACKS[stack](make_conveyor(kind, action)), eval_freq=20, n_eval_episodes=1, verbose=0)


class Situation(NamedTuple):
    algorithm: str
    kind: str = "vector"
    stack: str = "none"
    far: Mapping[str, Any] = MappingProxyType({})
    rewards: str = "sparse"
    history: str = "fresh"
    settings: Mapping[str, Any] = MappingProxyType({})

    def __str__(self):
        more = [f"{name}={getattr(value, '__name__', value)}" for name, value in {**self.far, **self.settings}.items()]
        return " ".join([self.algorithm, self.kind, self.stack, self.rewards, self.history, *more])


CONTINUOUS = ("SAC", "TD3", "DDPG", "TQC", "CrossQ")
TINY = {"net_arch": [8]}
COMPACT = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
HINDSIGHT = {"replay_buffer_class": HerReplayBuffer}


def algorithm_of(name):
    for library in ("stable_baselines3", "sb3_contrib"):
        module = pytest.importorskip(library)
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(name)


def environment(case, start=0):
    action = "continuous" if case.algorithm in CONTINUOUS else "discrete"
    return STACKS[case.stack](make_conveyor(case.kind, action, case.rewards, start))


def make(case, **settings):
    algorithm, kind = FAR(algorithm_of(case.algorithm)), case.kind
    policy = {"image": "Cnn", "dict": "MultiInput", "mixed": "MultiInput", "goal": "MultiInput"}.get(kind, "Mlp")
    policy = "Mlp" if case.stack == "extracted" else policy
    extractor = {"Cnn": {"features_dim": 8}, "MultiInput": {"cnn_output_dim": 8}}.get(policy, {})
    kwargs = TINY | ({"features_extractor_kwargs": extractor} if extractor else {})
    if case.algorithm == "RecurrentPPO":
        policy, kwargs = f"{policy}Lstm", kwargs | {"lstm_hidden_size": 8}
    far = FAR_SMALL | COEFFICIENTS | case.far
    if far.get("critic") == "shared":
        del far["critic_hidden"]  # of the own critic
    return algorithm(
        f"{policy}Policy",
        environment(case),
        far=far,
        policy_kwargs=kwargs,
        gamma=GAMMA,
        seed=0,
        device="cpu",
        **settings | case.settings,
    )


def run(case, model, watch, steps, tmp_path):
    """Let a model learn as the situation's history says; ``watch`` returns a callback and is called for each model."""
    action = "continuous" if case.algorithm in CONTINUOUS else "discrete"
    if case.history == "evaluated":
        return model.learn(2 * steps, callback=[watch(model), evaluates(case.kind, action, case.stack)])
    if case.history == "read":
        return model.learn(2 * steps, callback=[ReadsEachStep(), watch(model)])
    if case.history == "stopped":
        model.learn(2 * steps, callback=[watch(model), StopsAt(steps + 6)])
        return model.learn(steps, callback=watch(model), reset_num_timesteps=False)
    model.learn(steps, callback=watch(model))
    if case.history == "again":
        return model.learn(steps, callback=watch(model))
    if case.history == "loaded":
        model.save(tmp_path / "model")
        env = environment(case, start=3000)
        if (normalise := model.get_vec_normalize_env()) is not None:
            normalise.save(tmp_path / "norm")
            plain = env.venv if isinstance(env, VecNormalize) else env.venv.venv
            env = STACKS[case.stack](plain)
            env = VecNormalize.load(tmp_path / "norm", env.venv)
        loaded = type(model).load(tmp_path / "model", env=env, device="cpu")
        if hasattr(model, "replay_buffer"):
            model.save_replay_buffer(tmp_path / "buffer")
            loaded.load_replay_buffer(tmp_path / "buffer")
        return loaded.learn(steps, callback=watch(loaded), reset_num_timesteps=False)
    return model
