"""Advice for any policy: what to do next, as one more part of the observation, and as a prior on the actions."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn, VecEnvWrapper
from torch import Tensor, nn

from farl.sb3.observations import Array, Observation

ADVICE = "advice"
"""Name of the advice in an observation."""
_REST = "observation"


def advised_space(space: spaces.Space[Any], width: int) -> spaces.Dict:
    """Return the space of observations that come with an advice of so many numbers."""
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {_REST: space}
    return spaces.Dict({**parts, ADVICE: spaces.Box(0.0, 1.0, (width,), np.float32)})


def with_advice(observation: Observation, advice: Array) -> dict[str, Array]:
    """Return observations with their advice, float32[E, width]."""
    return {**(observation if isinstance(observation, dict) else {_REST: observation}), ADVICE: advice}


def without_advice(observation: Any) -> Any:
    """Return observations as they were before ``with_advice``; others as they are."""
    if not isinstance(observation, Mapping) or ADVICE not in observation:
        return observation
    rest = {name: part for name, part in observation.items() if name != ADVICE}
    return rest[_REST] if list(rest) == [_REST] else rest


class AdvisedFeatures(BaseFeaturesExtractor):
    """The features of the observation without its advice, and the advice behind them.

    :param observation_space: as ``advised_space`` makes it
    :param extractor_class: of the observation without its advice
    :param extractor_arguments: of that
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        extractor_class: type[BaseFeaturesExtractor],
        extractor_arguments: Mapping[str, Any],
    ) -> None:
        rest = without_advice(dict(observation_space.spaces))
        extractor = extractor_class(spaces.Dict(rest) if isinstance(rest, dict) else rest, **extractor_arguments)
        super().__init__(observation_space, extractor.features_dim + observation_space[ADVICE].shape[0])  # type: ignore[index]
        self.extractor = extractor
        self.advice = torch.empty(0)
        """float32[B, width], that of the latest call: what stands between features and actions does not pass it on."""

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return the features, float32[B, features_dim]."""
        self.advice = observations[ADVICE]
        return torch.cat([self.extractor(without_advice(observations)), self.advice], dim=1)


class _AdvisedPolicy(ActorCriticPolicy):
    """A policy that prefers the action it is advised, by a weight that it learns."""

    initial_prior: float
    prior: nn.Parameter

    def _build(self, lr_schedule: Any) -> None:
        # Of a continuous action, the advice is a direction: a third of the logits' weight is a long way along it.
        weight = self.initial_prior if isinstance(self.action_space, spaces.Discrete) else self.initial_prior / 3.0
        self.prior = nn.Parameter(torch.tensor(weight))
        super()._build(lr_schedule)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        found: Any = super()._get_action_dist_from_latent(latent_pi)
        extractor: Any = self.pi_features_extractor
        advice = self.prior * extractor.advice
        if isinstance(self.action_space, spaces.Discrete):
            distribution: Distribution = found.proba_distribution(action_logits=found.distribution.logits + advice)
            return distribution
        ahead, back = advice.chunk(2, dim=1)
        return found.proba_distribution(found.distribution.mean + ahead - back, self.log_std)  # type: ignore[no-any-return]


@cache
def advised_policy(policy_class: type[ActorCriticPolicy], prior: float) -> type[ActorCriticPolicy]:
    """Return a subclass of a policy whose logits, or mean, are moved towards the advised action.

    :param prior: weight of the advice to begin with; it is learnt from there
    """
    return type(f"Advised{policy_class.__name__}", (_AdvisedPolicy, policy_class), {"initial_prior": prior})


def advised_arguments(policy_class: type[BasePolicy], policy_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a policy for observations that come with advice."""
    default = inspect.signature(policy_class).parameters["features_extractor_class"].default
    given = dict(policy_arguments)
    inner = {
        "extractor_class": given.pop("features_extractor_class", default),
        "extractor_arguments": given.pop("features_extractor_kwargs", None) or {},
    }
    return {**given, "features_extractor_class": AdvisedFeatures, "features_extractor_kwargs": inner}


def unadvised_parameters(plain: Mapping[str, Tensor], advised: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters with which a plain policy does what the advised one does where nothing is advised.

    :param plain: parameters of the plain policy, for their names and shapes
    :param advised: parameters of the advised policy
    """
    found = {}
    for name, tensor in plain.items():
        inside = name.replace("features_extractor.", "features_extractor.extractor.", 1)
        # The advice comes last among the features: its columns are left out.
        found[name] = advised[name if name in advised else inside][tuple(slice(size) for size in tensor.shape)]
    return found


def no_advice(observation: Observation, space: spaces.Space[Any], width: int) -> dict[str, Array]:
    """Return observations with an advice of zeros, which is none.

    :param observation: one, or a batch of them
    :param space: of the observation without advice
    """
    part, its_space = observation, space
    if isinstance(observation, dict):
        name = next(iter(observation))
        part, its_space = observation[name], space[name]  # type: ignore[index]
    batch = np.shape(part)[: np.ndim(part) - len(its_space.shape or ())]  # type: ignore[arg-type]
    return with_advice(observation, np.zeros((*batch, width), np.float32))


class AdvisedVecEnv(VecEnvWrapper):
    """Gives every observation its advice.

    :param venv: what is wrapped
    :param width: of the advice
    :param advise: called after each step with what it returned, and the actions in front; returns the advice for the
        next one, float32[E, width]
    """

    def __init__(self, venv: VecEnv, width: int, advise: Callable[..., Array]) -> None:
        super().__init__(venv, observation_space=advised_space(venv.observation_space, width))
        self._width, self._advise = width, advise

    def reset(self) -> VecEnvObs:
        """Reset all environments; nothing is known yet."""
        return no_advice(self.venv.reset(), self.venv.observation_space, self._width)  # type: ignore[arg-type]

    def step_async(self, actions: Array) -> None:
        """Begin a step."""
        self._actions = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        advice = self._advise(self._actions, observations, rewards, dones, infos)
        for env in np.flatnonzero(dones):
            if "terminal_observation" in infos[env]:
                last = no_advice(infos[env]["terminal_observation"], self.venv.observation_space, self._width)
                infos[env] = {**infos[env], "terminal_observation": last}
        return with_advice(observations, advice), rewards, dones, infos  # type: ignore[arg-type]
