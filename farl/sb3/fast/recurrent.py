"""``Fast(RecurrentPPO)``: sequences go through the LSTM in one call, and only what is no padding through the rest."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.buffers import RecurrentDictRolloutBuffer, RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor, nn

from farl.sb3.fast import collecting, updating
from farl.sb3.fast.flat_adam import ClippedSteps
from farl.sb3.fast.heads import head_of
from farl.sb3.fast.policies import Acted, Evaluated, form_of, is_called_as, pick
from farl.sb3.stepping import OpenRollout, pausing, rows_taken

States = tuple[Tensor, Tensor]


class FastRecurrentPPO(OpenRollout, RecurrentPPO):
    """RecurrentPPO, the same in less time; what has ways of its own is done as sb3-contrib does it."""

    pauses_itself = True
    collected: collecting.Collected | None = None
    learns_as = RecurrentPPO
    _recurrent: "RecurrentLane | None" = None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_recurrent", "collected"]

    def _lane(self) -> "RecurrentLane | None":
        if type(self.rollout_buffer) not in (RecurrentRolloutBuffer, RecurrentDictRolloutBuffer):
            return None
        if self._recurrent is None or not self._recurrent.fits(self.policy):
            self._recurrent = RecurrentLane(self.policy) if RecurrentLane.takes(self.policy) else None
        return self._recurrent

    def collect_rollouts(self, env: Any, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int) -> bool:
        """Collect a rollout; see SB3."""
        lane = self._lane()
        taken, ours = rows_taken(self), rollout_buffer is self.rollout_buffer
        if lane is None or not ours or n_rollout_steps + taken != rollout_buffer.buffer_size:
            with pausing(self, taken):
                return bool(super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps))
        self.policy.set_training_mode(False)
        lane.steps.begin()
        return collecting.collect(self, RecurrentActor(self, lane), env, callback, rollout_buffer)

    def open_state(self) -> dict[str, Any]:
        """Return what has been collected."""
        return super().open_state() | {"collected": collecting.state_of(self)}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        super().take_up(state)
        collecting.put_back(self, state["collected"])

    def train(self) -> None:
        """Do the gradient steps of a rollout; see SB3."""
        lane = self._lane()
        if lane is None or self.rollout_buffer.generator_ready:
            return super().train()
        buffer = self.rollout_buffer
        lane.steps.begin()
        updating.update(self, lane, lane.steps, updating.rolled, Sequences(buffer, self.device).pick)
        return None


class RecurrentActor:
    """Acts in one rollout and remembers the states of the LSTMs, as ``RecurrentPPO.collect_rollouts`` does."""

    unscales = False

    def __init__(self, model: Any, lane: "RecurrentLane") -> None:
        self._model, self._lane = model, lane
        self._next: RNNStates = model._last_lstm_states

    def act(self, observations: Any, step: int) -> Acted:
        """Act at E observations."""
        model, buffer = self._model, self._model.rollout_buffer
        states = model._last_lstm_states
        for name, kept in (("pi", states.pi), ("vf", states.vf)):
            getattr(buffer, f"hidden_states_{name}")[step] = kept[0].cpu().numpy()
            getattr(buffer, f"cell_states_{name}")[step] = kept[1].cpu().numpy()
        starts = torch.as_tensor(model._last_episode_starts, dtype=torch.float32, device=model.device)
        actions, values, log_prob, self._next = self._lane.act(observations, states, starts)
        return Acted(actions.cpu().numpy(), values, log_prob)

    def advance(self) -> None:
        """Go on to the next step."""
        self._model._last_lstm_states = self._next

    def memory_of(self, env: int) -> States:
        """Return the critic's state in one environment after this step, float32[layers, 1, H] each."""
        hidden, cell = self._next.vf
        return hidden[:, env : env + 1], cell[:, env : env + 1]

    def values(self, observations: Any, memories: list[States]) -> Tensor:
        """Return the values of N observations, each seen with a memory."""
        hidden, cell = (torch.cat(parts, 1).contiguous() for parts in zip(*memories, strict=True))
        starts = torch.zeros(len(memories), device=hidden.device)
        return self._model.policy.predict_values(observations, (hidden, cell), starts)  # type: ignore[no-any-return]

    def last_values(self, observations: Any, dones: Any) -> Tensor:
        """Return the values of what follows the rollout."""
        starts = torch.as_tensor(dones, dtype=torch.float32, device=self._model.device)
        return self._model.policy.predict_values(observations, self._next.vf, starts)  # type: ignore[no-any-return]


class Sequences:
    """The sequences of a rollout, each within an episode of an environment.

    :param buffer: complete, not yet flattened
    """

    def __init__(self, buffer: Any, device: torch.device) -> None:
        self._n_envs, self._device = buffer.n_envs, device
        self._observations = updating.on_device(buffer.observations, device)
        self._episode_starts = buffer.episode_starts.reshape(-1) > 0.5
        arrays = (buffer.hidden_states_pi, buffer.cell_states_pi, buffer.hidden_states_vf, buffer.cell_states_vf)
        # [T, layers, E, H] -> [T * E, layers, H]
        self._states = [torch.from_numpy(part).transpose(1, 2).flatten(0, 1) for part in arrays]

    def pick(self, rows: Tensor) -> tuple[Any, "Part"]:
        """Return the observations of B successive samples of an environment after the other, and their sequences."""
        at = rows.cpu().numpy()
        begins = self._episode_starts[at] | (at < self._n_envs)
        anew = self._episode_starts[at]
        begins[0] = True
        first = np.flatnonzero(begins)
        sequence = np.cumsum(begins) - 1
        within = np.arange(len(at)) - first[sequence]
        starts = torch.from_numpy(at[first])
        keep = torch.from_numpy(~anew[first]).float().view(1, -1, 1).to(self._device)
        states = [part.index_select(0, starts).transpose(0, 1).to(self._device) * keep for part in self._states]
        place = torch.from_numpy(within * len(first) + sequence).to(self._device)
        part = Part(place, len(first), int(within.max()) + 1, (states[0], states[1]), (states[2], states[3]))
        return pick(self._observations, rows), part


class Part:
    """Where B samples lie in sequences of one length, and the states of the LSTMs that these begin with.

    :param place: int64[B], into [length * count]
    """

    def __init__(self, place: Tensor, count: int, length: int, pi: States, vf: States) -> None:
        self._place, self._shape, self.pi, self.vf = place, (length, count), pi, vf

    def through(self, lstm: nn.LSTM, features: Tensor, states: States) -> Tensor:
        """Return what an LSTM makes of features, float32[B, F], in their sequences: float32[B, H]."""
        length, count = self._shape
        padded = features.new_zeros((length * count, features.shape[1])).index_copy(0, self._place, features)
        made, _ = lstm(padded.view(length, count, -1), states)
        kept: Tensor = made.flatten(0, 1).index_select(0, self._place)
        return kept


class RecurrentLane:
    """A recurrent policy: acts, evaluates, and the gradient of what was evaluated."""

    def __init__(self, policy: Any) -> None:
        self.of, self._form = policy, form_of(policy)
        head = head_of(policy)
        assert head is not None
        self._head = head
        self._shape = policy.action_space.shape or ()
        self.steps = ClippedSteps(policy.optimizer, policy, list(policy.parameters()))

    @staticmethod
    def takes(policy: Any) -> bool:
        """Whether a policy computes as sb3-contrib's do, in LSTMs that draw nothing at random."""
        lstms = [module for module in policy.modules() if isinstance(module, nn.LSTM)]
        return (
            is_called_as(policy, RecurrentActorCriticPolicy)
            and head_of(policy) is not None
            and all(not (one.batch_first or one.bidirectional or one.dropout or one.proj_size) for one in lstms)
        )

    def fits(self, policy: Any) -> bool:
        """Whether this still is the lane of a policy."""
        return self.of is policy and self.steps.optimizer is policy.optimizer and self._form == form_of(policy)

    def act(self, observations: Any, states: Any, starts: Tensor) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Return actions, values float32[E], log-probabilities float32[E], and the states after the step."""
        policy, keep = self.of, (1.0 - starts).view(1, -1, 1)
        pi_features, vf_features = self._features(observations)

        def step(lstm: nn.LSTM, features: Tensor, before: States) -> tuple[Tensor, States]:
            made, after = lstm(features.unsqueeze(0), (before[0] * keep, before[1] * keep))
            return made.squeeze(0), after

        latent_pi, pi = step(policy.lstm_actor, pi_features, states.pi)
        latent_vf, vf = latent_pi, pi
        if policy.lstm_critic is not None:
            latent_vf, vf = step(policy.lstm_critic, vf_features, states.vf)
        elif not policy.shared_lstm:
            latent_vf = policy.critic(vf_features)
        outputs, values = self._last(latent_pi, latent_vf)
        actions, log_prob = self._head.draw(self._head.prepare(outputs))
        return actions.reshape(-1, *self._shape), values, log_prob, RNNStates(pi, vf)

    def evaluate(self, observations: Any, actions: Tensor, where: Part) -> Evaluated:
        """Evaluate B actions in their sequences."""
        policy = self.of
        pi_features, vf_features = self._features(observations)
        latent_pi = where.through(policy.lstm_actor, pi_features, where.pi)
        if policy.lstm_critic is not None:
            latent_vf = where.through(policy.lstm_critic, vf_features, where.vf)
        else:
            latent_vf = latent_pi.detach() if policy.shared_lstm else policy.critic(vf_features)
        self._computed = self._last(latent_pi, latent_vf)
        outputs, values = (part.detach() for part in self._computed)
        self._rows = self._head.rows(outputs, None, actions)
        return Evaluated(self._rows.log_prob, values, self._rows.entropy)

    def backward(self, log_prob: Tensor, values: Tensor, entropy: float) -> None:
        """Add the gradient of the parameters, given those of what ``evaluate`` returned."""
        torch.autograd.backward(self._computed, (self._rows.gradient(log_prob, entropy), values))

    def _features(self, observations: Any) -> tuple[Tensor, Tensor]:
        features = self.of.extract_features(observations)
        return (features, features) if self.of.share_features_extractor else features

    def _last(self, latent_pi: Tensor, latent_vf: Tensor) -> tuple[Tensor, Tensor]:
        policy = self.of
        outputs = policy.action_net(policy.mlp_extractor.forward_actor(latent_pi))
        return outputs, policy.value_net(policy.mlp_extractor.forward_critic(latent_vf)).squeeze(1)
