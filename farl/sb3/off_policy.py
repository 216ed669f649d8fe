"""Off-policy algorithms with curiosity: the bonus lies beside the reward in the replay buffer."""

import warnings
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from farl.errors import ConfigError
from farl.sb3.advice import (
    ADVICE,
    AdvisedVecEnv,
)
from farl.sb3.algorithm import FARAlgorithm
from farl.sb3.observations import Array, Observation
from farl.sb3.replay import BonusReplay, with_bonus, without_bonus


class OffPolicyFAR(FARAlgorithm, OffPolicyAlgorithm):
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
