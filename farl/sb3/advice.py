"""Advice for any policy: what to do next, as one more part of the observation, and as a prior on the actions."""

from abc import ABCMeta
from collections.abc import Callable, Mapping
from copyreg import pickle as register_for_pickle
from functools import cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution, StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn, VecEnvWrapper
from torch import Tensor, nn

from farl.errors import ConfigError
from farl.sb3.observations import Array, Observation

ADVICE = "advice"
"""Name of the advice in an observation."""
_REST = "observation"


class AdvisedSpace(spaces.Dict):
    """Observations that come with an advice.

    :param rest: space of the observations without it
    :param width: numbers of the advice
    :raises ConfigError: if they have a part of that name already
    """

    def __init__(self, rest: spaces.Space[Any], width: int) -> None:
        if has_advice_of_its_own(rest):
            raise ConfigError(
                f"far.module.graph: observations have a part named {ADVICE!r} already, as that of the graph is called; "
                "rename it, or leave the graph out"
            )
        parts = dict(rest.spaces) if isinstance(rest, spaces.Dict) else {_REST: rest}
        super().__init__({**parts, ADVICE: spaces.Box(0.0, 1.0, (width,), np.float32)})
        self.rest, self.width = rest, width


def has_advice_of_its_own(space: spaces.Space[Any]) -> bool:
    """Whether observations of an environment have a part of the advice's name."""
    return isinstance(space, spaces.Dict) and ADVICE in space.spaces


def with_advice(observation: Observation, advice: Array) -> dict[str, Array]:
    """Return observations with their advice, float32[E, width]."""
    return {**(observation if isinstance(observation, dict) else {_REST: observation}), ADVICE: advice}


def without_advice(observation: Any, rest: spaces.Space[Any]) -> Any:
    """Return observations as they were before ``with_advice``; others as they are.

    :param rest: the space of the observations without advice
    """
    if not isinstance(observation, Mapping) or ADVICE not in observation or has_advice_of_its_own(rest):
        return observation
    if not isinstance(rest, spaces.Dict):
        return observation[_REST]
    return {name: part for name, part in observation.items() if name != ADVICE}


class AdvisedFeatures(BaseFeaturesExtractor):
    """The features of the observation without its advice, and the advice behind them.

    :param observation_space: space of both
    :param extractor: what reads the observation without its advice
    """

    def __init__(self, observation_space: AdvisedSpace, extractor: BaseFeaturesExtractor) -> None:
        super().__init__(observation_space, extractor.features_dim + observation_space.width)
        self.extractor = extractor
        self._rest = observation_space.rest
        self.advice = torch.empty(0)
        """float32[B, width], that of the latest call: what stands between features and actions does not pass it on."""

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Return the features, float32[B, features_dim]."""
        self.advice = observations[ADVICE]
        return torch.cat([self.extractor(without_advice(observations, self._rest)), self.advice], dim=1)

    def __getattr__(self, name: str) -> Any:
        """Find the parts of an extractor of one's own by their names, as where there is no advice."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "extractor":  # copies are looked at before they have one
                raise
            return getattr(self.extractor, name)


class _AdvisedClass(ABCMeta):
    """The class of the classes that ``advised_policy`` makes: pickle finds them by the policy they were made of."""


class _Advised(BasePolicy, metaclass=_AdvisedClass):
    """A policy that sees the advice. What it is shown without one has an advice of zeros, which is none."""

    observation_space: AdvisedSpace

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Make what extracts features from observations, and put the advice behind them."""
        kind: Any = self.features_extractor_class
        space = self.observation_space
        return AdvisedFeatures(space, kind(space.rest, **self.features_extractor_kwargs))

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """Convert observations; see SB3."""
        return super().obs_to_tensor(self._complete(observation))

    def is_vectorized_observation(self, observation: Any) -> bool:
        """Whether it is a batch of observations; see SB3."""
        return super().is_vectorized_observation(self._complete(observation))

    def _complete(self, observation: Any) -> Any:
        space = self.observation_space
        if without_advice(observation, space.rest) is not observation:
            return observation
        return no_advice(observation, space.rest, space.width)


class AdvisedPolicy(_Advised, ActorCriticPolicy):
    """A policy that prefers the action it is advised, by a weight that it learns."""

    advises: type[ActorCriticPolicy]
    """The policy as it is without advice."""
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
        preferred = self.prior * self.preferred(extractor.advice)
        made: Distribution = found
        if isinstance(self.action_space, spaces.Discrete):
            made = found.proba_distribution(action_logits=found.distribution.logits + preferred)
        elif isinstance(self.action_space, spaces.Box):
            noise = (latent_pi,) if isinstance(found, StateDependentNoiseDistribution) else ()
            made = found.proba_distribution(found.distribution.mean + preferred, self.log_std, *noise)
        return made

    def preferred(self, advice: Tensor) -> Tensor:
        """Return the direction in which an advice, float32[B, width], moves logits or mean, float32[B, A].

        Zeros, float32[B, 1], where actions are several choices at once: the advice is but something to be seen there.
        """
        if isinstance(self.action_space, spaces.Discrete):
            return advice
        if not isinstance(self.action_space, spaces.Box):
            return torch.zeros_like(advice[:, :1])
        ahead, back = advice.chunk(2, dim=1)
        return ahead - back


@cache
def advised_policy(policy_class: type[BasePolicy], prior: float) -> type[BasePolicy]:
    """Return a subclass of a policy that sees the advice; an actor-critic's logits, or mean, are moved towards it.

    :param prior: weight of the advice to begin with; it is learnt from there
    """
    mixin = AdvisedPolicy if issubclass(policy_class, ActorCriticPolicy) else _Advised
    members = {"advises": policy_class, "initial_prior": prior, "__module__": __name__}
    made: Any = _AdvisedClass(f"Advised{policy_class.__name__}", (mixin, policy_class), members)
    return made  # type: ignore[no-any-return]


def _reduce_class(made: Any) -> Any:
    return (advised_policy, (made.advises, made.initial_prior)) if "advises" in vars(made) else made.__qualname__


register_for_pickle(_AdvisedClass, _reduce_class)


def unadvised_parameters(plain: BasePolicy, advised: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters with which a plain policy does what the advised one does where nothing is advised.

    :param plain: a policy that gives the names and shapes of its parameters
    :param advised: parameters of the advised policy
    """
    features = next(part.features_dim for part in plain.modules() if isinstance(part, BaseFeaturesExtractor))
    found = {}
    for name, tensor in plain.state_dict().items():
        inside = name.replace("features_extractor.", "features_extractor.extractor.", 1)
        value = advised[name if name in advised else inside]
        for axis, more in enumerate(np.subtract(value.shape, tensor.shape).tolist()):
            if more:  # the advice comes behind the features, and before the actions that a critic sees, too
                kept = [*range(features), *range(features + more, value.shape[axis])]
                value = value.index_select(axis, torch.tensor(kept, device=value.device))
        found[name] = value
    return found


def no_advice(observation: Observation, space: spaces.Space[Any], width: int) -> dict[str, Array]:
    """Return observations with an advice of zeros, which is none.

    :param observation: one, or a batch of them
    :param space: space of the observation without advice
    """
    part, its_space = observation, space
    if isinstance(observation, dict):
        name = next(iter(observation))
        part, its_space = observation[name], space[name]  # type: ignore[index]
    batch = np.shape(part)[: np.ndim(part) - len(its_space.shape or ())]  # type: ignore[arg-type]
    return with_advice(observation, np.zeros((*batch, width), np.float32))


def advised_last(info: dict[str, Any], space: spaces.Space[Any], width: int) -> dict[str, Any]:
    """Give an episode's last observation an advice of zeros, so that it is like all others.

    :param info: one step's, whether an episode ended in it or not
    :param space: space of observations without advice
    """
    if "terminal_observation" not in info:
        return info
    return {**info, "terminal_observation": no_advice(info["terminal_observation"], space, width)}


class AdvisedVecEnv(VecEnvWrapper):
    """Gives every observation its advice.

    :param venv: what is wrapped
    :param width: length of the advice
    :param advise: called after each step with what it returned, and the actions in front; returns the advice for the
        next one, float32[E, width]
    """

    def __init__(self, venv: VecEnv, width: int, advise: Callable[..., Array]) -> None:
        super().__init__(venv, observation_space=AdvisedSpace(venv.observation_space, width))
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
        if dones.any():
            infos = [advised_last(info, self.venv.observation_space, self._width) for info in infos]
        return with_advice(observations, advice), rewards, dones, infos  # type: ignore[arg-type]
