"""A policy as the fast lane calls it: act, evaluate, and the gradient of what was evaluated."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from farl.sb3.advice import AdvisedPolicy
from farl.sb3.fast.flat_adam import ClippedSteps, FlatAdam
from farl.sb3.fast.heads import Head, head_of
from farl.sb3.fast.networks import ModuleNetwork, Network, TwinMLP
from farl.sb3.fast.repeats import Repeats
from farl.sb3.fast.sparse import SparseRows
from farl.sb3.observations import Array

_WITHOUT = 15  # rollouts that look for no repeated observations after one that found too few

_METHODS = ("forward", "evaluate_actions", "predict_values", "extract_features", "_get_action_dist_from_latent")


class Acted(NamedTuple):
    """What a policy does at B observations.

    :ivar actions: [B, ...]
    :ivar values: float32[B], where it is cheapest to have: an array or a tensor
    :ivar log_prob: float32[B], likewise
    """

    actions: Array
    values: Array | Tensor
    log_prob: Array | Tensor


class Evaluated(NamedTuple):
    """What a policy says of B actions.

    :ivar log_prob: float32[B]
    :ivar values: float32[B]
    :ivar entropy: float32[B], or None where there is no closed form
    """

    log_prob: Tensor
    values: Tensor
    entropy: Tensor | None


class ComposedPolicy:
    """SB3's actor-critic policies: a network and a head."""

    def __init__(self, policy: ActorCriticPolicy, network: Network, head: Head) -> None:
        self._network, self._head = network, head
        self._shape = policy.action_space.shape or ()
        self._on_cpu = policy.device.type == "cpu"

    def act(self, observations: Any, repeats: Repeats | None = None) -> Acted:
        """Act at B observations.

        :param repeats: the repeats in this rollout, if observations may repeat
        """
        if self._on_cpu:
            prepared, values = self.look(observations) if repeats is None else repeats(observations)
            actions, log_prob = self._head.draw_array(prepared)
            return Acted(actions.reshape(-1, *self._shape), values, log_prob)
        outputs, value = self._network.look(observations)
        drawn, log_probs = self._head.draw(self._head.prepare(outputs))
        return Acted(drawn.reshape(-1, *self._shape).cpu().numpy(), value, log_probs)

    @torch.no_grad()
    def look(self, observations: Any) -> tuple[Array, Array]:
        """Return what the head draws from, float32[B, P], and values, float32[B]."""
        outputs, values = self._network.look(observations)
        return self._head.prepare(outputs).numpy(), values.numpy()

    def evaluate(self, observations: Any, actions: Tensor, where: Tensor | None) -> Evaluated:
        """Evaluate B actions, of which action b was taken at observation ``where[b]``; None is one each."""
        outputs, self._values = self._network.outputs(observations)
        self._where = where
        self._rows = self._head.rows(outputs.detach(), where, actions)
        values = self._values if where is None else self._values.index_select(0, where)
        return Evaluated(self._rows.log_prob, values.detach(), self._rows.entropy)

    def backward(self, log_prob: Tensor, values: Tensor, entropy: float) -> None:
        """Add the gradient of the parameters, given those of what ``evaluate`` returned.

        :param entropy: gradient of each sample's entropy
        """
        if self._where is not None:
            values = torch.zeros_like(self._values).index_add_(0, self._where, values)
        self._network.backward(self._rows.gradient(log_prob, entropy), values)


class OpaquePolicy:
    """A policy with ways of its own (gSDE, or a subclass): called as SB3 calls it."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy

    def act(self, observations: Any, repeats: Repeats | None = None) -> Acted:
        """Act at B observations."""
        assert repeats is None
        actions, values, log_prob = self._policy(observations)
        return Acted(actions.cpu().numpy(), values.flatten(), log_prob)

    def evaluate(self, observations: Any, actions: Tensor, where: Tensor | None) -> Evaluated:
        """Evaluate B actions."""
        assert where is None
        actions = actions.to(torch.float32)
        if isinstance(self._policy.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        values, log_prob, entropy = self._policy.evaluate_actions(observations, actions)
        self._evaluated = Evaluated(log_prob, values.flatten(), entropy)
        return Evaluated(log_prob.detach(), values.detach().flatten(), None if entropy is None else entropy.detach())

    def backward(self, log_prob: Tensor, values: Tensor, entropy: float) -> None:
        """Add the gradient of the parameters, given those of what ``evaluate`` returned."""
        parts, gradients = list(self._evaluated[:2]), [log_prob, values]
        if self._evaluated.entropy is not None:
            parts.append(self._evaluated.entropy)
            gradients.append(torch.full_like(log_prob, entropy))
        torch.autograd.backward(parts, gradients)


class Lane:
    """A policy and its optimiser, made ready for one rollout or one update at a time.

    :ivar policy: what acts and evaluates
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.of, self._form = policy, form_of(policy)
        head = head_of(policy) if is_called_as(policy, ActorCriticPolicy) else None
        network: Network = ModuleNetwork(policy)
        if head is not None and FlatAdam.takes(policy.optimizer, policy) and TwinMLP.takes(policy):
            network = TwinMLP(policy)
        self._network = network
        self._vectors = TwinMLP.vectors_of(policy) if isinstance(network, TwinMLP) else None
        self.policy = OpaquePolicy(policy) if head is None else ComposedPolicy(policy, network, head)
        self.steps = ClippedSteps(policy.optimizer, policy, network.order)
        self.repeats: Repeats | None = None
        """Of the rollout that is to be learnt from."""
        self._without_repeats = 0
        can_repeat = self._vectors is not None or isinstance(policy.observation_space, spaces.Box)
        on_cpu = policy.device.type == "cpu"
        self._may_repeat = can_repeat and on_cpu and head is not None and all(map(sees_rows_alone, policy.modules()))

    def fits(self, policy: ActorCriticPolicy) -> bool:
        """Whether this still is the lane of a policy."""
        return self.of is policy and self.steps.optimizer is policy.optimizer and self._form == form_of(policy)

    def begin(self) -> None:
        """Take up parameters and optimiser as they are now."""
        self.steps.begin()
        if isinstance(self._network, TwinMLP):
            self._network.bind()

    def state_dict(self) -> dict[str, Any]:
        """Return which observations have been seen in this rollout."""
        repeats = None if self.repeats is None else self.repeats.state_dict()
        return {"repeats": repeats, "without_repeats": self._without_repeats}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._without_repeats, self.repeats = int(state["without_repeats"]), None
        if state["repeats"] is not None:
            self.repeats = Repeats(self._looks(), int(state["repeats"]["n_samples"]))
            self.repeats.load_state_dict(state["repeats"])

    def look_for_repeats(self, n_samples: int) -> None:
        """Prepare for a rollout in which observations may repeat, unless a late one has shown that they do not."""
        before, self.repeats = self.repeats, None
        if before is not None and not before.pays:
            self._without_repeats = _WITHOUT
        if self._without_repeats:
            self._without_repeats -= 1
        elif self._may_repeat:
            self.repeats = Repeats(self._looks(), n_samples, before)

    def seen(self, observations: Any) -> Any:
        """Return observations, [B, ...] or a dict of such, as the policy of this lane takes them."""
        return observations if self._vectors is None else self._vectors(observations)

    def _looks(self) -> Any:
        assert isinstance(self.policy, ComposedPolicy)
        return self.policy.look

    def picker(self, observations: Any) -> Callable[[Tensor], tuple[Any, Tensor | None]]:
        """Return what picks some rows of a complete rollout, int64[B], to be evaluated.

        It gives their observations and, where only one of each kind is given, which of these each of the B is like.

        :param observations: [T * E, ...], or a dict of such
        """
        repeats = self.repeats
        if repeats is None or not repeats.pays:
            observations = self.seen(observations)
            return lambda rows: (pick(observations, rows), None)
        kinds = repeats.observations
        sparse = SparseRows.of(kinds) if isinstance(self._network, TwinMLP) else None

        def pick_kinds(rows: Tensor) -> tuple[Any, Tensor]:
            found, where = repeats.within(rows)
            if sparse is not None:
                return sparse.pick(found), where
            return kinds.index_select(0, torch.from_numpy(found)), where

        return pick_kinds


def is_called_as(policy: ActorCriticPolicy, usual: type[ActorCriticPolicy]) -> bool:
    """Whether a policy computes as a class of SB3's does, with no method of its own and no hook between."""
    kind = policy.advises if isinstance(policy, AdvisedPolicy) else type(policy)
    return (
        isinstance(policy, usual)
        and all(getattr(kind, name) is getattr(usual, name) for name in _METHODS)
        and not any(name in vars(policy) for name in _METHODS)
        and not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())
    )


def form_of(policy: ActorCriticPolicy) -> tuple[Any, ...]:
    """Return all by which it is chosen how a policy is called and trained: it can change between two rollouts."""
    return (
        [name for name in _METHODS if name in vars(policy)],
        [(id(part), bool(part._forward_hooks or part._forward_pre_hooks)) for part in policy.modules()],
        [(id(parameter), parameter.requires_grad) for parameter in policy.parameters()],
        FlatAdam.takes(policy.optimizer, policy),
    )


def sees_rows_alone(module: nn.Module) -> bool:
    """Whether what a module makes of an observation does not depend on chance or on the rest of the batch."""
    known = type(module).__module__.startswith(("torch.nn.", "stable_baselines3.", "farl."))
    return known and not isinstance(module, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd | nn.RReLU)


def pick(observations: Any, rows: Tensor) -> Any:
    """Return some rows of observations, [N, ...], or of a dict of such."""
    if isinstance(observations, dict):
        return {name: part.index_select(0, rows) for name, part in observations.items()}
    return observations.index_select(0, rows)
