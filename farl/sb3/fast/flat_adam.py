"""Adam over all of a policy's parameters at once, with the clipping of their gradient's norm."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

_PLAIN = {
    "weight_decay": 0,
    "amsgrad": False,
    "maximize": False,
    "differentiable": False,
    "decoupled_weight_decay": False,
}


class FlatAdam:
    """Does the steps of a ``torch.optim.Adam`` on one vector.

    Parameters, gradients and both moments become parts of four vectors, where they lie one after the other; the
    optimiser's state is made of such parts too, so that others save, load and step it as ever.

    :param optimizer: whose parameters, settings and state these are
    :param order: its parameters in the order in which they are to lie in memory
    """

    def __init__(self, optimizer: torch.optim.Adam, order: Sequence[nn.Parameter]) -> None:
        self.optimizer = optimizer
        self.order = list(order)
        self._sizes = [parameter.numel() for parameter in self.order]
        first = self.order[0]
        vectors = [torch.zeros(sum(self._sizes), dtype=first.dtype, device=first.device) for _ in range(4)]
        self.parameters, self.gradient, self._first, self._second = vectors
        self._step = torch.zeros((), device=first.device)
        self._parts = [
            [
                part.view_as(parameter)
                for part, parameter in zip(torch.split(vector, self._sizes), self.order, strict=True)
            ]
            for vector in vectors
        ]

    def __reduce__(self) -> tuple[type["FlatAdam"], tuple[torch.optim.Adam, list[nn.Parameter]]]:
        """Copy and pickle without the vectors: pickled views would no longer share their memory with the parameters."""
        return FlatAdam, (self.optimizer, self.order)

    @staticmethod
    def takes(optimizer: torch.optim.Optimizer, policy: nn.Module) -> bool:
        """Whether an optimiser is plain Adam in one group, of all of a policy's parameters, in float32."""
        if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) != 1:
            return False
        group = optimizer.param_groups[0]
        parameters = group["params"]
        if {id(part) for part in parameters} != {id(part) for part in policy.parameters()}:
            return False
        return all(group.get(name, value) == value for name, value in _PLAIN.items()) and all(
            parameter.requires_grad and parameter.dtype == torch.float32 and parameter.device == parameters[0].device
            for parameter in parameters
        )

    @torch.no_grad()
    def attach(self) -> None:
        """Take over what parameters and optimiser hold, wherever it lies; call it before the first of some steps."""
        state: Any = self.optimizer.state
        steps = 0.0
        for parameter, value, gradient, first, second in zip(self.order, *self._parts, strict=True):
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter)
                parameter.data = value
            parameter.grad = gradient
            held = state.get(parameter, {})
            if held:
                steps = float(held["step"])
            for name, moment in (("exp_avg", first), ("exp_avg_sq", second)):
                if name not in held:
                    moment.zero_()
                elif held[name].data_ptr() != moment.data_ptr():
                    moment.copy_(held[name])
        self._step.fill_(steps)

    @torch.no_grad()
    def detach(self) -> None:
        """Let the optimiser's state say where the steps since ``attach`` have led."""
        state: Any = self.optimizer.state
        for parameter, first, second in zip(self.order, *self._parts[2:], strict=True):
            held = state[parameter]
            held["step"] = torch.tensor(float(self._step))
            held["exp_avg"], held["exp_avg_sq"] = first, second

    def zero_gradient(self) -> None:
        """Set the gradient to zero."""
        self.gradient.zero_()

    @torch.no_grad()
    def step(self, max_norm: float) -> None:
        """Scale the gradient to at most ``max_norm`` (Euclidean) and do one step."""
        self._step += 1
        if self.parameters.device.type == "cpu":
            self._step_compiled(max_norm)
        else:
            self._step_with_torch(max_norm)

    def _step_with_torch(self, max_norm: float) -> None:
        group = self.optimizer.param_groups[0]
        # The fused kernel divides the gradient by its scale: clipping costs no pass of its own.
        scale = ((self.gradient.norm() + 1e-6) / max_norm).clamp_(min=1.0)
        beta1, beta2 = group["betas"]
        torch._fused_adam_(
            [self.parameters],
            [self.gradient],
            [self._first],
            [self._second],
            [],
            [self._step],
            lr=float(group["lr"]),
            beta1=beta1,
            beta2=beta2,
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=scale,
        )

    def _step_compiled(self, max_norm: float) -> None:
        from farl.sb3.fast import compiled  # numba takes a second to import

        group = self.optimizer.param_groups[0]
        value, gradient = self.parameters.numpy(), self.gradient.numpy()
        first, second = self._first.numpy(), self._second.numpy()
        betas = float(group["betas"][0]), float(group["betas"][1])
        compiled.adam(
            value,
            gradient,
            first,
            second,
            float(max_norm),
            float(group["lr"]),
            betas,
            float(group["eps"]),
            float(self._step),
        )


class ClippedSteps:
    """Gradient steps with clipping: in one vector where an optimiser is plain Adam, its own way otherwise.

    :param optimizer: optimiser of a module's parameters
    :param module: whose gradient's norm is clipped
    :param order: its parameters in the order in which they are to lie in memory
    """

    def __init__(self, optimizer: torch.optim.Optimizer, module: nn.Module, order: Sequence[nn.Parameter]) -> None:
        self.optimizer, self._module = optimizer, module
        takes = isinstance(optimizer, torch.optim.Adam) and FlatAdam.takes(optimizer, module)
        self.flat = FlatAdam(optimizer, order) if takes and isinstance(optimizer, torch.optim.Adam) else None

    def begin(self) -> None:
        """Take up parameters and optimiser as they are now."""
        if self.flat is not None:
            self.flat.attach()

    def end(self) -> None:
        """Leave the optimiser as if it had done the steps itself."""
        if self.flat is not None:
            self.flat.detach()

    def zero_gradient(self) -> None:
        """Set the gradient to zero."""
        if self.flat is not None:
            self.flat.zero_gradient()
        else:
            self.optimizer.zero_grad()

    def step(self, max_norm: float) -> None:
        """Clip the gradient and do one step."""
        if self.flat is not None:
            self.flat.step(max_norm)
        else:
            nn.utils.clip_grad_norm_(self._module.parameters(), max_norm)
            self.optimizer.step()
