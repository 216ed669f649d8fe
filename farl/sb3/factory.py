"""``FAR(Algorithm)``: any Stable-Baselines3 algorithm with curiosity under fragmentation and recall."""

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from farl.curiosity import CuriosityStep, FARCuriosity
from farl.errors import ConfigError
from farl.sb3.advice import (
    ADVICE,
    AdvisedSpace,
    AdvisedVecEnv,
    advised_policy,
    has_advice_of_its_own,
    unadvised_parameters,
    with_advice,
    without_advice,
)
from farl.sb3.config import FARConfig
from farl.sb3.intrinsic_critic import IntrinsicCritic, discounted_sums
from farl.sb3.observations import Array, Observation, action_spec, require_finite
from farl.sb3.replay import BonusReplay, with_bonus, without_bonus
from farl.sb3.rollout import Rollout
from farl.sb3.saving import Saving
from farl.sb3.stepping import OpenRollout, rollout_rows
from farl.sb3.unnormalised import unnormalised_space

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)


def FAR(algorithm: type[Algorithm]) -> type[Algorithm]:
    """Return a subclass of an algorithm that takes one more keyword, ``far``.

    ``far`` is a dict or a ``FARConfig``; ``{}`` is the defaults; None, or leaving it out, switches everything off, and
    the subclass then does bit for bit what the algorithm does. Saving, loading, callbacks, evaluation and
    ``VecNormalize`` work as ever; ``rollout/ep_rew_mean`` stays the extrinsic return. ``model.curiosity`` is the live
    ``FARCuriosity``, and ``model.plain()`` an ordinary model that loads without FARL.

    - ``FAR(Fast(PPO))`` is the same in less time; see ``Fast``.
    - On-policy algorithms get a separate intrinsic critic; advantages are weighted sums, value targets stay extrinsic.
    - Off-policy algorithms store ``extrinsic_coef * reward + intrinsic_coef * intrinsic reward``; with ``refresh`` the
      intrinsic part is computed anew, by the modules as they are then, whenever a transition is replayed.

    :param algorithm: a class derived from SB3's ``OnPolicyAlgorithm`` or ``OffPolicyAlgorithm``
    :raises TypeError: if it is anything else

    >>> from stable_baselines3 import PPO
    >>> model = FAR(PPO)("MlpPolicy", "CartPole-v1", far={"criterion": {"name": "ratio", "threshold": 4.0}})
    >>> model.curiosity.fragments
    1
    """
    if not (isinstance(algorithm, type) and issubclass(algorithm, OnPolicyAlgorithm | OffPolicyAlgorithm)):
        raise TypeError(
            f"FAR takes the class of an SB3 algorithm, as in FAR(PPO)(...), on-policy or off-policy; got {algorithm!r}"
        )
    return algorithm if issubclass(algorithm, _FARAlgorithm) else _make_class(algorithm)


@cache  # FAR(PPO) is FAR(PPO)
def _make_class(algorithm: type[Any]) -> type[Any]:
    mixin = _OnPolicyFAR if issubclass(algorithm, OnPolicyAlgorithm) else _OffPolicyFAR
    members = {
        "__doc__": algorithm.__doc__,
        "__module__": __name__,
        "algorithm_class": getattr(algorithm, "plain_class", algorithm),
    }
    return type(f"FAR{algorithm.__name__}", (mixin, algorithm), members)


class _FARAlgorithm(Saving, OpenRollout):
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
            assert self._last_obs is not None
            self.take_in()  # what an interrupted rollout left
            observations = without_advice(self._last_obs, self.observation_space)
            self._rollout.begin(observations, restarts)
            if self.n_advised:
                self._last_obs = with_advice(
                    observations, self._rollout.advise(np.full(self.n_envs, restarts), self._allowed())
                )
        return result

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


class _OnPolicyFAR(_FARAlgorithm, OnPolicyAlgorithm):
    """Adds the intrinsic advantages, from a critic of their own or the policy's, to the extrinsic ones.

    Nothing here needs the rewards before the rollout is complete: the curiosity takes it in at its end, which is much
    cheaper than step by step.
    """

    buffer_class_name = "rollout_buffer_class"
    intrinsic_critic: IntrinsicCritic | None

    def _setup_model(self) -> None:
        super()._setup_model()
        self.intrinsic_critic = None
        if self.far is not None and (config := self._rollout.config).critic == "own":
            self.intrinsic_critic = IntrinsicCritic(
                self.policy,
                hidden=config.critic_hidden,
                learning_rate=config.critic_learning_rate,
                gamma=config.gamma,
                gae_lambda=self.gae_lambda,
                episodic=config.episodic,
                seed=self._rollout.seed,
            )

    def _curious_parts(self) -> list[str]:
        return super()._curious_parts() + ([] if self.intrinsic_critic is None else ["intrinsic_critic"])

    @property
    def curiosity_steps(self) -> list[CuriosityStep]:
        """What the curiosity made of each step of this rollout, as far as it was taken in; empty without ``far``."""
        return [] if self.far is None else self._rollout.steps

    @property
    def _rows(self) -> int | None:
        return rollout_rows(self.rollout_buffer)

    def _allowed(self) -> Array | None:
        if not (hasattr(self.rollout_buffer, "action_masks") and isinstance(self.action_space, spaces.Discrete)):
            return None  # of several choices at once, an advice is a direction, which no mask is of
        from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

        assert self.env is not None
        return np.asarray(get_action_masks(self.env), bool) if is_masking_supported(self.env) else None

    def collect_rollouts(self, env: Any, callback: BaseCallback, *args: Any, **kwargs: Any) -> bool:
        """Collect a rollout, then mix the two advantages and train critic and modules on it."""
        if self.far is not None:
            self._rollout.clear()
        if self.n_advised:
            env = AdvisedVecEnv(env, self.n_advised, self._advise)
        complete = super().collect_rollouts(env, callback, *args, **kwargs)
        if complete and self.far is not None:
            rewards = np.array([step.intrinsic_reward for step in self._rollout.steps], np.float32)
            if self.intrinsic_critic is None:
                self._mix_rewards(rewards)
            else:
                self._mix_advantages(self.intrinsic_critic, rewards)
            self._rollout.update(self.logger.record)
        return complete

    def _mix_rewards(self, rewards: Array) -> None:
        """Let advantages and returns be those of the sum of both rewards, as if it had come from the environment."""
        config, buffer = self._rollout.config, self.rollout_buffer
        paid = np.array(self._rollout.rewards, np.float32)
        more = config.intrinsic_coef * rewards + (config.extrinsic_coef - 1.0) * paid
        buffer.rewards += more
        # Advantages are linear in the rewards: what is added to these adds its discounted sum to those.
        ends = np.concatenate([buffer.episode_starts[1:], cast(Array, self._last_episode_starts)[None]])
        more = discounted_sums(more, 1.0 - ends, self.gamma * self.gae_lambda)
        buffer.advantages = buffer.advantages + more
        buffer.returns = buffer.returns + more

    def _mix_advantages(self, critic: IntrinsicCritic, rewards: Array) -> None:
        assert self._last_obs is not None
        buffer = self.rollout_buffer
        advantages, returns = critic.advantages(buffer, rewards, self._last_obs, cast(Array, self._last_episode_starts))
        # The extrinsic returns are the policy's value targets: they are complete before the mix, and stay as they are.
        config = self._rollout.config
        buffer.advantages = config.extrinsic_coef * buffer.advantages + config.intrinsic_coef * advantages
        # Not every on-policy algorithm has epochs and minibatches (A2C): one pass over the rollout then.
        epochs, batch_size = getattr(self, "n_epochs", 1), getattr(self, "batch_size", rewards.size)
        loss = critic.train(buffer.observations, returns, epochs, batch_size)
        self.logger.record("far/critic_loss", loss)
        self.logger.record("far/intrinsic_return", float(returns.mean()))


class _OffPolicyFAR(_FARAlgorithm, OffPolicyAlgorithm):
    """Keeps the intrinsic reward of each transition in the replay buffer, beside the extrinsic one."""

    buffer_class_name = "replay_buffer_class"

    def _setup_model(self) -> None:
        super()._setup_model()
        self._refuse_unadvised_replay(self.env)
        self._attach_buffer()

    def set_env(self, env: Any, *args: Any, **kwargs: Any) -> None:
        """Set the environment; see SB3."""
        self._refuse_unadvised_replay(env)
        super().set_env(env, *args, **kwargs)

    def _refuse_unadvised_replay(self, env: Any) -> None:
        if self.n_advised and isinstance(env, VecEnv) and unwrap_vec_normalize(env) is not None:
            raise ConfigError(
                f"far.module.graph: {type(self).__name__} cannot take advice beside VecNormalize, whose replay buffer "
                "holds observations without it; leave out one of them"
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach_buffer()  # which pickle left out

    def load_replay_buffer(self, *args: Any, **kwargs: Any) -> None:
        """Load a replay buffer; see SB3. What a buffer without curiosity holds has no bonus, which is warned of."""
        super().load_replay_buffer(*args, **kwargs)
        buffer = self.replay_buffer
        assert buffer is not None
        if self.far is not None and not isinstance(buffer, BonusReplay) and buffer.size():
            warnings.warn(
                f"the replay buffer was saved without curiosity: the {buffer.size() * buffer.n_envs} transitions in it "
                "have no bonus, those to come have",
                stacklevel=2,
            )
        self._attach_buffer()

    def _attach_buffer(self) -> None:
        assert self.replay_buffer is not None
        if self.far is None:
            self.replay_buffer = without_bonus(self.replay_buffer)
        else:
            self.replay_buffer = with_bonus(self.replay_buffer)
            self.replay_buffer.attach(self._rollout, self.policy)

    def _add(self, new_observations: Observation, actions: Array, rewards: Array, dones: Array, infos: Any) -> None:
        self._rollout.clear()
        super()._add(new_observations, actions, rewards, dones, infos)
        self.take_in()
        if self._rollout.is_due:
            self._rollout.update(self.logger.record)

    def collect_rollouts(self, env: Any, *args: Any, **kwargs: Any) -> Any:
        """Collect steps, with advice if there is any; see SB3."""
        if self.n_advised:
            env = AdvisedVecEnv(env, self.n_advised, self._advise)
        return super().collect_rollouts(env, *args, **kwargs)

    def _sample_action(self, learning_starts: int, *args: Any, **kwargs: Any) -> tuple[Array, Array]:
        actions, stored = super()._sample_action(learning_starts, *args, **kwargs)
        if self.n_advised and isinstance(self.action_space, spaces.Discrete):
            # Where an action would be drawn at random, take the advised one instead, nine times of ten.
            explores = 1.0 if self.num_timesteps < learning_starts else getattr(self, "exploration_rate", 0.0)
            advice = cast(Any, self._last_obs)[ADVICE]
            follows = advice.any(axis=1) & (np.random.random(len(advice)) < 0.9 * explores)  # noqa: NPY002
            actions = np.where(follows, advice.argmax(axis=1), actions)
            stored = actions
        return actions, stored

    def _store_transition(self, replay_buffer: ReplayBuffer, *args: Any, **kwargs: Any) -> None:
        row = replay_buffer.pos
        super()._store_transition(replay_buffer, *args, **kwargs)
        if isinstance(replay_buffer, BonusReplay):
            step = self._rollout.curiosity.last
            assert step is not None
            replay_buffer.pay(row, step.intrinsic_reward, step.events.active)


class _Record(BaseCallback):
    """Adds each step of the training environments to the rollout, and has the curiosity take it in at the end."""

    model: _FARAlgorithm

    def _on_step(self) -> bool:
        if self.model.n_advised:
            return True  # what gives the advice has seen the step already
        step = self.locals
        actions = step.get("clipped_actions", step["actions"])
        self.model._add(step["new_obs"], actions, step["rewards"], step["dones"], step["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self.model.take_in()

    def _on_training_end(self) -> None:
        self.model.take_in()  # what a rollout left that was stopped
