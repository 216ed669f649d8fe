"""A policy's network: observations in, what the action head takes and values out, and the gradient back."""

from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

from farl.sb3.advice import AdvisedPolicy
from farl.sb3.fast.sparse import SparseRows
from farl.sb3.fast.vectors import Vectors

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
        outputs = policy.action_net(latent_pi)
        if isinstance(policy, AdvisedPolicy):
            extractor: Any = policy.pi_features_extractor
            outputs = outputs + policy.prior * policy.preferred(extractor.advice)
        self._computed = outputs, policy.value_net(latent_vf).squeeze(1)
        return self._computed

    def backward(self, outputs_gradient: Tensor, values_gradient: Tensor) -> None:
        """Go back through the graph."""
        torch.autograd.backward(self._computed, (outputs_gradient, values_gradient))


class TwinMLP:
    """Actor and critic of equal layers, each a half of one network, forwards and backwards by hand."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        extractor = policy.mlp_extractor
        stacks = [_linear(extractor.policy_net), _linear(extractor.value_net)]
        self._both = ParallelMLP(stacks, [policy.action_net, policy.value_net], tanh=_is_tanh(extractor.policy_net))
        self._rest = [getattr(policy, name) for name in ("log_std", "prior") if hasattr(policy, name)]
        self._advised = policy if isinstance(policy, AdvisedPolicy) else None
        vectors = self.vectors_of(policy)
        assert vectors is not None
        self._n_advised = vectors.n_advised

    @staticmethod
    def takes(policy: ActorCriticPolicy) -> bool:
        """Whether a policy is two equal stacks of linear layers with tanh or ReLU over a vector of numbers."""
        extractor = policy.mlp_extractor
        actor, critic = list(extractor.policy_net), list(extractor.value_net)
        return (
            TwinMLP.vectors_of(policy) is not None
            and type(extractor) is MlpExtractor
            and policy.share_features_extractor
            and [str(layer) for layer in actor] == [str(layer) for layer in critic]
            and ParallelMLP.takes(actor)
        )

    @property
    def order(self) -> list[nn.Parameter]:
        """Parameters with the two halves of each layer side by side."""
        return [*self._both.order, *self._rest]

    @staticmethod
    def vectors_of(policy: ActorCriticPolicy) -> Vectors | None:
        """Return what makes vectors of the observations; None where they are none."""
        return Vectors.of(policy.observation_space, policy.features_extractor, policy.normalize_images)

    def bind(self) -> None:
        """Note where the parameters lie; they and their gradients must lie in ``order``, one after the other."""
        self._both.bind()

    def look(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both, to act."""
        outputs, values = self._both.look(observations)
        discrete = self._advised is not None and isinstance(self._advised.action_space, spaces.Discrete)
        if self._advised is not None and discrete and outputs.device.type == "cpu":
            # Of few rows with arrays: each operation of torch takes several times as long.
            outputs.numpy()[:] += np.float32(self._advised.prior.item()) * observations.numpy()[:, -self._n_advised :]
            return outputs, values[:, 0]
        return self._moved(outputs, observations), values[:, 0]

    def outputs(self, observations: Tensor | SparseRows) -> tuple[Tensor, Tensor]:
        """Compute both, ready for ``backward``."""
        outputs, values = self._both.outputs(observations)
        return self._moved(outputs, observations), values[:, 0]

    def backward(self, outputs_gradient: Tensor, values_gradient: Tensor) -> None:
        """Write the gradient of the parameters."""
        self._both.backward([outputs_gradient, values_gradient.unsqueeze(1)])
        if self._advised is not None:
            gradient: Any = self._advised.prior.grad
            gradient.copy_((outputs_gradient * self._preferred).sum())

    @torch.no_grad()
    def _moved(self, outputs: Tensor, observations: Tensor | SparseRows) -> Tensor:
        """Return outputs moved towards what is advised."""
        if self._advised is None:
            return outputs
        if isinstance(observations, SparseRows):
            advice = observations.last(self._n_advised)
        else:
            advice = observations[:, -self._n_advised :]
        self._preferred = self._advised.preferred(advice)
        return outputs + self._advised.prior * self._preferred


class ParallelMLP:
    """K stacks of equal layers over the same vectors, side by side, forwards and backwards by hand.

    The first layers of all are one matrix product, those of each further layer one batched product, and gradients are
    written to where they belong, not added to it. Observations may be ``SparseRows``.

    :param stacks: the hidden layers of each
    :param heads: the last layer of each; these need not be equal
    :param tanh: whether tanh follows each hidden layer; ReLU otherwise
    """

    def __init__(self, stacks: list[list[nn.Linear]], heads: list[Any], tanh: bool) -> None:
        self._layers = list(zip(*stacks, strict=True))
        self._heads, self._tanh, self._count = heads, tanh, len(stacks)
        self._arrays: list[tuple[Any, Any]] | None = None

    @classmethod
    def of(cls, layers: list[nn.Module], head: nn.Module) -> "ParallelMLP | None":
        """Return the one stack of some layers and a linear one; None if they are of another kind."""
        if not cls.takes(layers):
            return None
        return cls(
            [[layer for layer in layers if isinstance(layer, nn.Linear)]], [head], isinstance(layers[1], nn.Tanh)
        )

    @staticmethod
    def takes(layers: list[nn.Module]) -> bool:
        """Whether layers are linear ones, at least one, with tanh or ReLU after each."""
        return (
            len(layers) >= 2
            and [type(layer) for layer in layers[::2]] == [nn.Linear] * (len(layers) // 2)
            and {type(layer) for layer in layers[1::2]} in ({nn.Tanh}, {nn.ReLU})
        )

    @property
    def order(self) -> list[nn.Parameter]:
        """Parameters with those of each layer side by side."""
        layers = [
            part for layer in self._layers for part in ([one.weight for one in layer] + [one.bias for one in layer])
        ]
        return [*layers, *(part for head in self._heads for part in (head.weight, head.bias))]

    def bind(self) -> None:
        """Note where the parameters lie; they and their gradients must lie in ``order``, one after the other."""
        first, *further = self._layers
        self._first = _span([one.weight for one in first], False), _span([one.bias for one in first], False)
        self._further = [
            (_span([one.weight for one in layer], True), _span([one.bias for one in layer], True)) for layer in further
        ]
        self._last = [(head.weight.data, head.bias.data) for head in self._heads]
        self._arrays = None

    def look(self, observations: Tensor) -> list[Tensor]:
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
        for weight, bias in weights[1 : -self._count]:
            _, width, width_before = weight.shape
            inputs, hidden = hidden, np.empty((count, self._count * width), np.float32)
            for part in range(self._count):
                compiled.layer(inputs, part * width_before, weight[part], bias[part], hidden, part * width, kind)
        made = []
        for part, (weight, bias) in enumerate(weights[-self._count :]):
            outputs = np.empty((count, len(bias)), np.float32)
            compiled.layer(hidden, part * weight.shape[1], weight, bias, outputs, 0, compiled.NOTHING)
            made.append(torch.from_numpy(outputs))
        return made

    def _weights(self) -> list[tuple[Any, Any]]:
        """Return weight and bias of all layers as numpy arrays that share their memory."""
        if self._arrays is None:
            layers = [(weight, bias) for (weight, _), (bias, _) in [self._first, *self._further]]
            self._arrays = [(weight.numpy(), bias.numpy()) for weight, bias in [*layers, *self._last]]
        return self._arrays

    @torch.no_grad()
    def outputs(self, observations: Tensor | SparseRows) -> list[Tensor]:
        """Compute what each head gives, [B, its width], and keep what the layers gave."""
        (weight, _), (bias, _) = self._first
        self._inputs: Tensor | SparseRows
        if isinstance(observations, SparseRows):
            self._inputs = observations
            hidden = self._activate(observations.layer(weight, bias))
        else:
            self._inputs = observations.flatten(1).float()
            hidden = self._activate(torch.addmm(bias, self._inputs, weight.t()))
        # [K, B, width]: the part of each stack
        parts = hidden.view(len(hidden), self._count, -1).transpose(0, 1)
        self._hidden = [parts]
        for (weight, _), (bias, _) in self._further:
            parts = self._activate(torch.baddbmm(bias.unsqueeze(1), parts, weight.transpose(1, 2)))
            self._hidden.append(parts)
        return [torch.addmm(bias, part, weight.t()) for part, (weight, bias) in zip(parts, self._last, strict=True)]

    @torch.no_grad()
    def backward(self, gradients: list[Tensor]) -> None:
        """Write the gradient of the parameters, given those of what ``outputs`` returned last."""
        last = self._hidden[-1]
        gradient = _like(last)
        for head, of_outputs, hidden, before in zip(self._heads, gradients, last, gradient, strict=True):
            torch.mm(of_outputs.t(), hidden, out=head.weight.grad)
            torch.sum(of_outputs, 0, out=head.bias.grad)
            torch.mm(of_outputs, head.weight, out=before)
        gradient = self._deactivate(gradient, last)
        for index in reversed(range(len(self._further))):
            (weight, weight_gradient), (_, bias_gradient) = self._further[index]
            below = self._hidden[index]
            torch.bmm(gradient.transpose(1, 2), below, out=weight_gradient)
            torch.sum(gradient, 1, out=bias_gradient)
            before = _like(below)
            for part in range(self._count):
                torch.mm(gradient[part], weight[part], out=before[part])
            gradient = self._deactivate(before, below)
        (_, weight_gradient), (_, bias_gradient) = self._first
        flat = gradient.transpose(0, 1).reshape(gradient.shape[1], -1)
        if isinstance(self._inputs, SparseRows):
            self._inputs.gradient(flat, weight_gradient)
        else:
            torch.mm(flat.t(), self._inputs, out=weight_gradient)
        torch.sum(flat, 0, out=bias_gradient)

    def _activate(self, hidden: Tensor) -> Tensor:
        return tanh_(hidden) if self._tanh else hidden.relu_()

    def _deactivate(self, gradient: Tensor, activated: Tensor) -> Tensor:
        if self._tanh:
            return tanh_backward_(gradient, activated)
        return torch.ops.aten.threshold_backward(gradient, activated, 0)  # type: ignore[no-any-return]


def _linear(layers: nn.Module) -> list[nn.Linear]:
    return [layer for layer in layers.children() if isinstance(layer, nn.Linear)]


def _is_tanh(layers: nn.Module) -> bool:
    return any(isinstance(layer, nn.Tanh) for layer in layers.children())


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


def _span(parameters: list[nn.Parameter], stack: bool) -> tuple[Tensor, Tensor]:
    """Return K neighbours of [N, ...] as one, [K N, ...] or [K, N, ...], and their gradients."""
    shape, count = parameters[0].shape, len(parameters)
    shape = torch.Size((count, *shape) if stack else (count * shape[0], *shape[1:]))

    def together(parts: list[Any]) -> Tensor:
        for one, other in pairwise(parts):
            assert other.data_ptr() == one.data_ptr() + one.numel() * one.element_size()
        return parts[0].as_strided((shape.numel(),), (1,)).view(shape)  # type: ignore[no-any-return]

    return together([part.data for part in parameters]), together([part.grad for part in parameters])
