"""On-policy algorithms with curiosity: intrinsic advantages join the extrinsic ones."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from farl.curiosity import CuriosityStep
from farl.sb3.advice import (
    AdvisedVecEnv,
)
from farl.sb3.algorithm import FARAlgorithm
from farl.sb3.intrinsic_critic import IntrinsicCritic, discounted_sums
from farl.sb3.observations import Array
from farl.sb3.stepping import rollout_rows


class OnPolicyFAR(FARAlgorithm, OnPolicyAlgorithm):
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
        ends = np.concatenate([buffer.episode_starts[1:], self._rollout.end[1][None]])
        more = discounted_sums(more, 1.0 - ends, self.gamma * self.gae_lambda)
        buffer.advantages = buffer.advantages + more
        buffer.returns = buffer.returns + more

    def _mix_advantages(self, critic: IntrinsicCritic, rewards: Array) -> None:
        buffer = self.rollout_buffer
        advantages, returns = critic.advantages(buffer, rewards, *self._rollout.end)
        # The extrinsic returns are the policy's value targets: they are complete before the mix, and stay as they are.
        config = self._rollout.config
        buffer.advantages = config.extrinsic_coef * buffer.advantages + config.intrinsic_coef * advantages
        # Not every on-policy algorithm has epochs and minibatches (A2C): one pass over the rollout then.
        epochs, batch_size = getattr(self, "n_epochs", 1), getattr(self, "batch_size", rewards.size)
        loss = critic.train(buffer.observations, returns, epochs, batch_size)
        self.logger.record("far/critic_loss", loss)
        self.logger.record("far/intrinsic_return", float(returns.mean()))
