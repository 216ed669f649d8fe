"""What every algorithm with curiosity does: it is built, learns, saves, and takes in each transition."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from farl.curiosity import FARCuriosity
from farl.sb3.advice import (
    AdvisedSpace,
    advised_policy,
    has_advice_of_its_own,
    unadvised_parameters,
    with_advice,
    without_advice,
)
from farl.sb3.config import FARConfig
from farl.sb3.observations import Array, Observation, action_spec, require_finite
from farl.sb3.rollout import Rollout
from farl.sb3.saving import Saving
from farl.sb3.stepping import OpenRollout
from farl.sb3.unnormalised import unnormalised_space


class FARAlgorithm(Saving, OpenRollout):
    """What both kinds share: building, and taking in every transition."""

    _seen_space: spaces.Space[Any] | None = None  # of observations without normalisation; saved with the model
    n_advised: int
    """Length of the advice that the policy gets with each observation; 0 for none."""
    _rollout: Rollout

    def __init__(self, *args: Any, far: FARConfig | dict[str, Any] | None = None, **kwargs: Any) -> None:
        config = FARConfig.parse(far)
        self._default_far = config if config is not None and config.without_default_graph() is not config else None
        # Kept as plain data, for SB3 writes every attribute into its zip.
        self.far = None if config is None else config.model_dump(mode="json")
        super().__init__(*args, **kwargs)

    @property
    def curiosity(self) -> FARCuriosity | None:
        """The live curiosity; None without ``far``.

        On-policy algorithms show it a rollout at its end. Who wants it up to date before calls ``take_in``.
        """
        return None if self.far is None else self._rollout.curiosity

    def take_in(self) -> None:
        """Show the curiosity the steps since it was shown the last ones.

        At the end of a rollout, before saving, and off-policy in each step it is done anyway.
        """
        if self.far is None:
            return
        predicts = self._rollout.curiosity.module.predicts
        for step in self._rollout.take_in():
            if predicts:
                self.logger.record_mean("far/surprisal", float(step.surprisal.mean()))
            self.logger.record_mean("far/intrinsic_reward", float(step.intrinsic_reward.mean()))

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the model, with all that its curiosity has seen; see SB3."""
        self.take_in()
        self.save_as_it_is(*args, **kwargs)

    def plain(self) -> BaseAlgorithm:
        """Return the same agent as an ordinary SB3 model, whose ``save`` can be loaded without FARL."""
        make: Any = self.algorithm_class  # BaseAlgorithm's own signature is not that of the algorithms
        model: BaseAlgorithm = make(self.policy_class, self.env, device=self.device, _init_setup_model=False)
        own = (
            ("far", "_seen_space", "n_advised", "_last_obs") if self.n_advised else ("far", "_seen_space", "n_advised")
        )
        leave_out = {*self._excluded_save_params(), *self._get_torch_save_params()[1], *own}
        model.__dict__.update({name: value for name, value in self.__dict__.items() if name not in leave_out})
        model._setup_model()
        if self.n_advised:  # of other shapes, and so are the moments of the optimiser, which begins anew
            model.policy.load_state_dict(unadvised_parameters(model.policy, self.policy.state_dict()))
            return model
        parameters: Any = self.get_parameters()  # a dict for each part; SB3 declares tensors
        model.set_parameters({name: parameters[name] for name in model.get_parameters()})
        return model

    def _setup_model(self) -> None:
        self._unpack_settings()
        config = self._settled()
        self.n_advised = 0 if config is None else config.module.n_advised(action_spec(self.action_space))
        if config is None or not self.n_advised:
            super()._setup_model()  # type: ignore[safe-super]
        else:
            self._setup_advised(config.module.advice_prior)
        if config is not None:
            if self._seen_space is None:
                self._seen_space = self.observation_space if self.env is None else unnormalised_space(self.env)
            # No draw from the global random state: switching curiosity on changes nothing but the rewards.
            self._rollout = Rollout(config, self._seen_space, self.action_space, self.n_envs, self.device, self.seed)

    def _settled(self) -> FARConfig | None:
        """Return the settings, without the graph if it is only the default and nothing here can follow it."""
        config, default = FARConfig.parse(self.far), self.__dict__.pop("_default_far", None)
        follows = issubclass(self.policy_class, ActorCriticPolicy) and isinstance(self.action_space, spaces.Discrete)
        if default is not None and (not follows or has_advice_of_its_own(self.observation_space)):
            config = default.without_default_graph()
            self.far = config.model_dump(mode="json")
        return config

    def _setup_advised(self, prior: float) -> None:
        """Set up networks and buffers for observations that come with advice; the environment's stay as they are."""
        space, policy_class = self.observation_space, self.policy_class
        buffer_class = getattr(self, self.buffer_class_name)
        self.observation_space = AdvisedSpace(space, self.n_advised)
        self.policy_class = advised_policy(policy_class, prior)
        try:
            super()._setup_model()  # type: ignore[safe-super]
        finally:
            self.observation_space, self.policy_class = space, policy_class
            setattr(self, self.buffer_class_name, buffer_class)

    def _advise(self, actions: Array, observations: Observation, rewards: Array, dones: Array, infos: Any) -> Array:
        """Take in one step of all environments and return the advice for the next."""
        self._add(observations, actions, rewards, dones, infos)
        self.take_in()
        return self._rollout.advise(dones, self._allowed())

    def _allowed(self) -> Array | None:
        """Which actions can be taken now, bool[E, A]; None where the algorithm masks none."""
        return None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "intrinsic_critic", "_rollout"]

    def _setup_learn(
        self, total_timesteps: int, callback: Any = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        restarts = reset_num_timesteps or self._last_obs is None
        if self.far is not None:
            assert self.env is not None, "set an environment first: model.set_env(env)"
            self._rollout.attach(self.env)
        result = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        if self.far is not None and (self.reopened is None or restarts):
            self.take_in()  # what an interrupted rollout left
            self._begin(restarts)
        return result

    def continue_elsewhere(self) -> None:
        """Take note that, between two rollouts, the environments were exchanged for others, which have been reset.

        They are ``env`` already, and ``_last_obs`` is what they show.
        """
        if self.far is not None:
            assert self.env is not None
            self._rollout.attach(self.env)
            self._begin(restarts=True)

    def _begin(self, restarts: bool) -> None:
        """Show the rollout what the environments show before its first step, and ask for advice there."""
        assert self._last_obs is not None
        observations = without_advice(self._last_obs, self.observation_space)
        self._rollout.begin(observations, restarts)
        if self.n_advised:
            advice = self._rollout.advise(np.full(self.n_envs, restarts), self._allowed())
            self._last_obs = with_advice(observations, advice)

    def open_state(self) -> dict[str, Any]:
        """Return the steps of the rollout, as far as they have been taken in or wait."""
        return super().open_state() | ({} if self.far is None else {"far": self._rollout.open_state(self._rows)})

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        super().take_up(state)
        if self.far is not None:
            self._rollout.take_up(state["far"], anew=bool((self.reopened or {}).get("anew")))

    @property
    def _rows(self) -> int | None:
        """Steps of the open rollout that have been stored; None where all that is seen is stored at once."""
        return None

    def _init_callback(self, callback: Any, progress_bar: bool = False) -> BaseCallback:
        if self.far is not None:
            given = callback if isinstance(callback, list) else [] if callback is None else [callback]
            given = [each if isinstance(each, BaseCallback) else ConvertCallback(each) for each in given]
            callback = CallbackList([_Record(), *given])  # first, so that the others see this step's events
        return super()._init_callback(callback, progress_bar)

    def _add(self, new_observations: Observation, actions: Array, rewards: Array, dones: Array, infos: Any) -> None:
        """Take note of one step of all environments.

        :raises ConfigError: if a reward or an observation is not finite
        """
        require_finite("reward", self._rollout.original_rewards(rewards), self.num_timesteps)
        self._rollout.add(new_observations, actions, rewards, dones, infos)


class _Record(BaseCallback):
    """Adds each step of the training environments to the rollout, and has the curiosity take it in at the end."""

    model: FARAlgorithm

    def _on_step(self) -> bool:
        if self.model.n_advised:
            return True  # what gives the advice has seen the step already
        step = self.locals
        actions = step.get("clipped_actions", step["actions"])
        self.model._add(step["new_obs"], actions, step["rewards"], step["dones"], step["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self.model.take_in()
        self.model._rollout.end = self.model._last_obs, self.model._last_episode_starts

    def _on_training_end(self) -> None:
        self.model.take_in()  # what a rollout left that was stopped
