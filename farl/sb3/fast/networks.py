"""A policy's network: observations in, what the action head takes and values out, and the gradient back."""

from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn

from farl.sb3.fast.sparse import SparseRows

_FEW = 64  # rows for which a loop is faster than a call of the matrix library


class Network(Protocol):
    """Outputs for the head, float32[B, P], and values, float32[B], of B observations."""

    def look(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Compute both, to act."""

    def outputs(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Compute both, ready for ``backward``."""

    def backward(self, outputs_gradient: Tensor, values_gradient: Tensor) -> None:
        """Add the gradient of the parameters, for the observations of the last call of ``outputs``."""

    @property
    def order(self) -> list[nn.Parameter]:
        """Parameters in the order in which they are to lie in memory."""


class ModuleNetwork:
    """Any policy, by its modules and autograd."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy

    @property
    def order(self) -> list[nn.Parameter]:
        """All parameters, as they come."""
        return list(self._policy.parameters())

    def look(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Call the modules, to act."""
        return self.outputs(observations)

    def outputs(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Call the modules."""
        policy = self._policy
        features = policy.extract_features(observations)
        if policy.share_features_extractor:
            latent_pi, latent_vf = policy.mlp_extractor(features)
        else:
            latent_pi = policy.mlp_extractor.forward_actor(features[0])
            latent_vf = policy.mlp_extractor.forward_critic(features[1])
        self._computed = policy.action_net(latent_pi), policy.value_net(latent_vf).squeeze(1)
        return self._computed

    def backward(self, outputs_gradient: Tensor, values_gradient: Tensor) -> None:
        """Go back through the graph."""
        torch.autograd.backward(self._computed, (outputs_gradient, values_gradient))


class TwinMLP:
    """Actor and critic of equal layers, each a half of one network, forwards and backwards by hand.

    Both first layers are one matrix product, both of each further layer one batched product, and gradients are written
    to where they belong, not added to it. Observations may be ``SparseRows``.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        extractor = policy.mlp_extractor
        self._pairs = [
            (actor, critic)
            for actor, critic in zip(extractor.policy_net, extractor.value_net, strict=True)
            if isinstance(actor, nn.Linear) and isinstance(critic, nn.Linear)
        ]
        self._tanh = isinstance(extractor.policy_net[1], nn.Tanh)
        self._heads: Any = (policy.action_net, policy.value_net)
        self._rest = [policy.log_std] if hasattr(policy, "log_std") else []
        self._arrays: list[tuple[Any, Any]] | None = None

    @staticmethod
    def takes(policy: ActorCriticPolicy) -> bool:
        """Whether a policy is two equal stacks of linear layers with tanh or ReLU over a vector of numbers."""
        extractor = policy.mlp_extractor
        actor, critic = list(extractor.policy_net), list(extractor.value_net)
        images = is_image_space(policy.observation_space) and policy.normalize_images  # these are divided by 255
        return (
            not images
            and isinstance(policy.observation_space, spaces.Box)
            and type(extractor) is MlpExtractor
            and type(policy.features_extractor) is FlattenExtractor
            and policy.share_features_extractor
            and len(actor) >= 2
            and [str(layer) for layer in actor] == [str(layer) for layer in critic]
            and [type(layer) for layer in actor[::2]] == [nn.Linear] * (len(actor) // 2)
            and {type(layer) for layer in actor[1::2]} in ({nn.Tanh}, {nn.ReLU})
        )

    @property
    def order(self) -> list[nn.Parameter]:
        """Parameters with the two halves of each layer side by side."""
        layers = [part for one, other in self._pairs for part in (one.weight, other.weight, one.bias, other.bias)]
        return [*layers, *(part for head in self._heads for part in (head.weight, head.bias)), *self._rest]

    def bind(self) -> None:
        """Note where the parameters lie; they and their gradients must lie in ``order``, one after the other."""
        (first, second), *further = self._pairs
        self._first = _joined(first.weight, second.weight), _joined(first.bias, second.bias)
        self._further = [(_stacked(one.weight, other.weight), _stacked(one.bias, other.bias)) for one, other in further]
        self._last = [(head.weight.data, head.bias.data) for head in self._heads]
        self._arrays = None

    @torch.no_grad()
    def look(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Compute all layers; on a CPU a few rows without the matrix library, which takes longer to be called."""
        if len(observations) > _FEW or observations.device.type != "cpu":
            return self.outputs(observations)
        from farl.sb3.fast import compiled  # numba takes a second to import

        kind = compiled.TANH if self._tanh else compiled.RELU
        weights = self._weights()
        count, inputs = len(observations), observations.flatten(1).float().contiguous().numpy()
        weight, bias = weights[0]
        hidden = np.empty((count, len(bias)), np.float32)
        compiled.layer(inputs, 0, weight, bias, hidden, 0, kind)
        for weight, bias in weights[1:-2]:
            _, width, width_before = weight.shape
            inputs, hidden = hidden, np.empty((count, 2 * width), np.float32)
            for half in (0, 1):
                compiled.layer(inputs, half * width_before, weight[half], bias[half], hidden, half * width, kind)
        (actor_weight, actor_bias), (critic_weight, critic_bias) = weights[-2:]
        outputs, values = np.empty((count, len(actor_bias)), np.float32), np.empty((count, 1), np.float32)
        compiled.layer(hidden, 0, actor_weight, actor_bias, outputs, 0, compiled.NOTHING)
        compiled.layer(hidden, hidden.shape[1] // 2, critic_weight, critic_bias, values, 0, compiled.NOTHING)
        return torch.from_numpy(outputs), torch.from_numpy(values[:, 0])

    def _weights(self) -> list[tuple[Any, Any]]:
        """Return weight and bias of all layers as numpy arrays that share their memory."""
        if self._arrays is None:
            layers = [
                tuple(part for part, _ in self._first),
                *(tuple(part for part, _ in each) for each in self._further),
            ]
            self._arrays = [(weight.numpy(), bias.numpy()) for weight, bias in [*layers, *self._last]]
        return self._arrays

    @torch.no_grad()
    def outputs(self, observations: Tensor | SparseRows) -> tuple[Tensor, Tensor]:
        """Compute all layers, and keep what they gave."""
        (weight, _), (bias, _) = self._first
        self._inputs: Tensor | SparseRows
        if isinstance(observations, SparseRows):
            self._inputs = observations
            hidden = self._activate(observations.layer(weight, bias))
        else:
            self._inputs = observations.flatten(1).float()
            hidden = self._activate(torch.addmm(bias, self._inputs, weight.t()))
        # [2, B, width]: the actor's half and the critic's
        twins = hidden.view(len(hidden), 2, -1).transpose(0, 1)
        self._hidden = [twins]
        for (weight, _), (bias, _) in self._further:
            twins = self._activate(torch.baddbmm(bias.unsqueeze(1), twins, weight.transpose(1, 2)))
            self._hidden.append(twins)
        (actor_weight, actor_bias), (critic_weight, critic_bias) = self._last
        outputs = torch.addmm(actor_bias, twins[0], actor_weight.t())
        return outputs, torch.addmv(critic_bias, twins[1], critic_weight[0])

    @torch.no_grad()
    def backward(self, outputs_gradient: Tensor, values_gradient: Tensor) -> None:
        """Go back layer by layer."""
        actor, critic = self._heads
        last = self._hidden[-1]
        torch.mm(outputs_gradient.t(), last[0], out=actor.weight.grad)
        torch.sum(outputs_gradient, 0, out=actor.bias.grad)
        torch.mv(last[1].t(), values_gradient, out=critic.weight.grad[0])
        torch.sum(values_gradient, 0, keepdim=True, out=critic.bias.grad)
        gradient = _like(last)
        torch.mm(outputs_gradient, actor.weight, out=gradient[0])
        torch.mul(values_gradient.unsqueeze(1), critic.weight, out=gradient[1])
        gradient = self._deactivate(gradient, last)
        for index in reversed(range(len(self._further))):
            (weight, weight_gradient), (_, bias_gradient) = self._further[index]
            below = self._hidden[index]
            torch.bmm(gradient.transpose(1, 2), below, out=weight_gradient)
            torch.sum(gradient, 1, out=bias_gradient)
            before = _like(below)
            for half in (0, 1):
                torch.mm(gradient[half], weight[half], out=before[half])
            gradient = self._deactivate(before, below)
        (_, weight_gradient), (_, bias_gradient) = self._first
        flat = gradient.transpose(0, 1).reshape(gradient.shape[1], -1)
        if isinstance(self._inputs, SparseRows):
            self._inputs.gradient(flat, weight_gradient)
        else:
            torch.mm(flat.t(), self._inputs, out=weight_gradient)
        torch.sum(flat, 0, out=bias_gradient)

    def _activate(self, hidden: Tensor) -> Tensor:
        if not self._tanh:
            return hidden.relu_()
        return tanh_(hidden)

    def _deactivate(self, gradient: Tensor, activated: Tensor) -> Tensor:
        if self._tanh:
            return tanh_backward_(gradient, activated)
        return torch.ops.aten.threshold_backward(gradient, activated, 0)  # type: ignore[no-any-return]


def tanh_(values: Tensor) -> Tensor:
    """Take the hyperbolic tangent in place."""
    flat = _memory(values)
    if flat is None:
        return values.tanh_()
    from farl.sb3.fast import compiled

    compiled.tanh(flat)
    return values


def tanh_backward_(gradient: Tensor, activated: Tensor) -> Tensor:
    """Return the gradient before a tangent that gave ``activated``; it may be computed in place."""
    flat, other = _memory(gradient), _memory(activated)
    if flat is None or other is None or gradient.stride() != activated.stride():
        return torch.ops.aten.tanh_backward(gradient, activated)  # type: ignore[no-any-return]
    from farl.sb3.fast import compiled

    compiled.tanh_backward(flat, other)
    return gradient


def _memory(values: Tensor) -> Any:
    """Return the numbers of a tensor in the order in which they lie, float32[N], where numpy can see them all."""
    if values.device.type != "cpu" or values.dtype != torch.float32:
        return None
    if values.is_contiguous():
        return values.numpy().reshape(-1)
    turned = values.transpose(0, 1)
    return turned.numpy().reshape(-1) if turned.is_contiguous() else None


def _like(twins: Tensor) -> Tensor:
    """Return an empty tensor, [2, B, width], that lies in memory as another does: by halves or by rows."""
    if twins.is_contiguous():
        return torch.empty_like(twins)
    return twins.new_empty((twins.shape[1], 2, twins.shape[2])).transpose(0, 1)


def _joined(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return two neighbours of [N, ...] as one [2 N, ...], and their gradients."""
    return _span(one.data, other.data, stack=False), _span(one.grad, other.grad, stack=False)


def _stacked(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return two neighbours of [N, ...] as one [2, N, ...], and their gradients."""
    return _span(one.data, other.data, stack=True), _span(one.grad, other.grad, stack=True)


def _span(one: Tensor | None, other: Tensor | None, stack: bool) -> Tensor:
    assert one is not None
    assert other is not None
    assert other.data_ptr() == one.data_ptr() + one.numel() * one.element_size()
    shape = (2, *one.shape) if stack else (2 * one.shape[0], *one.shape[1:])
    return one.as_strided((2 * one.numel(),), (1,)).view(shape)
