"""N copies of one network as stacked parameters and buffers, moved and evaluated in batched calls."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn

from farl.errors import ConfigError
from farl.particles import vmap
from farl.particles.backend_choice import fastest_chunk
from farl.particles.batching import BatchedLayers, ReducedPrecision, Substitute
from farl.particles.initialisation import Initialisation, draw_particles
from farl.particles.products import GradientPool

Backend = Literal["auto", "vmap", "chunked", "loop"]
Network = Callable[..., Any]
Objective = Callable[..., Tensor]
"""``objective(network, *batch) -> scalar``: the loss of one particle, given its network and its batch."""

DEFAULT_CHUNK = 10
# Stacks beyond this many bytes leave every cache and gain nothing more from being one call.
_PROBE_BYTES = 512 * 2**20
_CACHE_BYTES = 2 * 2**20


def available_memory(device: torch.device) -> int:
    """Return the free memory of a device in bytes (for the CPU: what the kernel says is available)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class ParticleEnsemble:
    """``n_particles`` copies of a module, held as one stacked tensor per parameter and buffer.

    Every particle has its own parameters *and* buffers, so that batch normalisation keeps separate statistics.
    Tied parameters stay tied, dropout draws a mask for each particle.

    The backends give equal results up to rounding: ``vmap`` runs all particles in one call, ``chunked`` takes
    ``chunk_size`` of them at a time (which bounds gradients and activations), ``loop`` one at a time; ``auto``
    measures them once on the first batch and keeps the fastest. Name a backend where runs must agree to the bit.

    :param module: the network; a copy is kept, the module itself is not changed
    :param n_particles: number of particles
    :param init: ``"noise"`` (the module's parameters plus noise) or ``"independent"``
    :param noise_scale: range of the standard deviations of that noise
    :param seed: seed of the initial particles
    :param backend: ``"auto"``, ``"vmap"``, ``"chunked"`` or ``"loop"``
    :param chunk_size: particles per call of the chunked backend
    :param device: where the particles live; by default where the module is
    :param autocast: reduced precision of the forward pass, such as ``torch.bfloat16`` on a GPU: of its matrix products
        and convolutions; parameters, normalisation and outputs keep float32.
    :param particles: numbers of the particles held here, if not ``range(n_particles)``: a process that shares the work
        with others holds only some.
    :param state: stacked (parameters, buffers) to start from instead of drawing them
    :ivar parameters: name to tensor of shape [n_particles, *parameter shape]
    :ivar buffers: name to tensor of shape [n_particles, *buffer shape]
    :raises ConfigError: for a wrong argument, a module that keeps state outside parameters and buffers, or too little
        memory (the message says how many particles fit).
    """

    def __init__(
        self,
        module: nn.Module,
        n_particles: int,
        *,
        init: Initialisation = "noise",
        noise_scale: tuple[float, float] = (0.001, 0.04),
        seed: int = 0,
        backend: Backend = "auto",
        chunk_size: int | None = None,
        device: torch.device | str | None = None,
        autocast: torch.dtype | None = None,
        particles: Sequence[int] | None = None,
        state: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None,
    ) -> None:
        if n_particles < 1:
            raise ConfigError(f"n_particles must be at least 1, got {n_particles}")
        if backend not in ("auto", "vmap", "chunked", "loop"):
            raise ConfigError(f"backend must be 'auto', 'vmap', 'chunked' or 'loop', got {backend!r}")
        if chunk_size is not None and chunk_size < 1:
            raise ConfigError(f"chunk_size must be at least 1, got {chunk_size}")
        first = next(module.parameters(), None)
        if first is None:
            raise ConfigError("the module has no parameters: there is nothing for particles to differ in")
        _refuse_hidden_state(module)
        self.device = torch.device(device) if device is not None else first.device
        self.module = copy.deepcopy(module).to(self.device)
        self._substitute = Substitute(self.module)
        self.autocast = autocast
        self.bytes_per_particle = sum(
            v.numel() * v.element_size() for v in (*self.module.parameters(), *self.module.buffers())
        )
        self._refuse_overflow(n_particles)
        if state is None:
            numbers = range(n_particles) if particles is None else particles
            state = draw_particles(module, numbers, init, noise_scale, seed)
        self.parameters = {name: value.detach().to(self.device).contiguous() for name, value in state[0].items()}
        self.buffers = {name: value.detach().to(self.device).contiguous() for name, value in state[1].items()}
        self.n_particles = n_particles
        self._trainable = [name for name, value in self.module.named_parameters() if value.requires_grad]
        self._checked = False
        self._pool = GradientPool()
        self._chunks: list[slice] = []
        self._leaves: list[dict[str, Tensor]] = []
        self._views: list[dict[str, Tensor]] = []
        if backend == "vmap":
            self._partition(n_particles)
        elif backend == "chunked":
            self._partition(chunk_size or DEFAULT_CHUNK)
        elif backend == "loop":
            self._partition(1)
        self._auto_chunk = chunk_size

    def _refuse_overflow(self, n_particles: int) -> None:
        # The particles themselves, and as much again for gradients and the state of an optimiser.
        each = 2 * self.bytes_per_particle
        free = available_memory(self.device)
        if each * n_particles > free:
            raise ConfigError(
                f"{n_particles} particles of {self.bytes_per_particle / 1e6:.1f} MB each do not fit into "
                f"{free / 1e9:.2f} GB on {self.device}: use n_particles={free // each} or fewer"
            )

    def _partition(self, size: int) -> None:
        size = min(size, self.n_particles)
        self._chunks = [slice(s, min(s + size, self.n_particles)) for s in range(0, self.n_particles, size)]
        # Leaves share the stack's memory: an optimiser that steps them moves the particles in place.
        self._leaves = [
            {name: self.parameters[name][chunk].detach().requires_grad_() for name in self._trainable}
            for chunk in self._chunks
        ]
        self._views = [{name: p[chunk] for name, p in self.parameters.items()} for chunk in self._chunks]

    @property
    def chunks(self) -> list[slice]:
        """The particles of each batched call; empty until ``auto`` has measured (see :meth:`resolve`)."""
        return self._chunks

    @property
    def chunk_size(self) -> int:
        """Particles per batched call: 1 is the loop, ``n_particles`` is a single vmap; 0 while undecided."""
        return self._chunks[0].stop if self._chunks else 0

    def leaves(self, chunk: int) -> dict[str, Tensor]:
        """Return the trainable parameters of one chunk, as leaf tensors that share the ensemble's memory."""
        return self._leaves[chunk]

    def clear_gradients(self, chunk: int) -> None:
        """Drop the gradients of one chunk, whose memory is used again; nobody may hold them any longer."""
        for leaf in self._leaves[chunk].values():
            if leaf.grad is not None:
                self._pool.give(leaf.grad)
            leaf.grad = None

    def train(self, mode: bool = True) -> ParticleEnsemble:
        """Set training or evaluation mode, as ``nn.Module.train`` does."""
        self.module.train(mode)
        return self

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return copies of the stacked (parameters, buffers)."""
        return (
            {name: value.clone() for name, value in self.parameters.items()},
            {name: value.clone() for name, value in self.buffers.items()},
        )

    def _run(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        function: Callable[..., Any],
        batch: Sequence[Any],
        per_particle: bool,
    ) -> tuple[Any, dict[str, Tensor]]:
        """Apply ``function(network, *batch)`` to every particle of a stack; return values and new buffers."""

        def single(parameters: dict[str, Tensor], buffers: dict[str, Tensor], *batch: Any) -> tuple[Any, Any]:
            state = {**parameters, **buffers}

            def network(*inputs: Any) -> Any:
                outputs = self._substitute(state, inputs)
                if self.autocast is not None and isinstance(outputs, Tensor):
                    return outputs.to(torch.float32)
                return outputs

            return function(network, *batch), {name: state[name] for name in buffers}

        reduced = ReducedPrecision(self.autocast) if self.autocast is not None else contextlib.nullcontext()
        n = len(next(iter(parameters.values())))
        if n == 1:
            with reduced:
                value, new = single(
                    {name: p.squeeze(0) for name, p in parameters.items()},
                    {name: b.squeeze(0) for name, b in buffers.items()},
                    *([b.squeeze(0) for b in batch] if per_particle else batch),
                )
            return value.unsqueeze(0), {name: b.unsqueeze(0) for name, b in new.items()}
        stacked = (True, True, *(per_particle for _ in batch))
        with BatchedLayers(self._pool), reduced:
            return vmap.call(single, n, (parameters, buffers, *batch), stacked)  # type: ignore[no-any-return]

    def resolve(
        self, objective: Objective, batch: Sequence[Tensor], per_particle: bool = False, defer: bool = False
    ) -> None:
        """Let ``backend="auto"`` measure the backends on a batch; does nothing once they are chosen.

        The arguments are those with which :meth:`backward` will be called.
        Nothing but the choice changes: particles, buffers and random state are left as they were.
        """
        if self._chunks:
            return
        sizes = {1, 2, DEFAULT_CHUNK, max(1, _CACHE_BYTES // self.bytes_per_particle)}
        if self._auto_chunk is not None:
            sizes = {1, self._auto_chunk}
        elif self.n_particles * self.bytes_per_particle <= _PROBE_BYTES:
            sizes.add(self.n_particles)
        devices = [self.device] if self.device.type == "cuda" else []

        def update(rows: slice) -> None:
            with torch.random.fork_rng(devices=devices):
                some = {n: p[rows].detach().requires_grad_(n in self._trainable) for n, p in self.parameters.items()}
                buffers = {n: b[rows].clone() for n, b in self.buffers.items()}
                part = [b[rows] for b in batch] if per_particle else batch
                losses, _ = self._run(some, buffers, objective, part, per_particle)
                losses.sum().backward()
                with torch.no_grad():  # an update ends in a forward pass
                    self._run(some, buffers, objective, part, per_particle)
            for _, left, right in self._pool.deferred:
                self._pool.give(self._pool.product(left.detach(), right.detach()))
            self._pool.deferred.clear()
            for value in some.values():
                if value.grad is not None:
                    self._pool.give(value.grad)

        self._pool.deferring = defer
        sizes = {min(size, self.n_particles) for size in sizes}
        self._partition(fastest_chunk(sizes, self.n_particles, update, self.device))
        self._pool = GradientPool()

    def _stack(self, chunk: int, gradient: bool) -> dict[str, Tensor]:
        return self._views[chunk] | (self._leaves[chunk] if gradient else {})

    def backward(
        self,
        chunk: int,
        objective: Objective,
        batch: Sequence[Tensor],
        *,
        per_particle: bool = False,
        scale: Tensor | None = None,
        defer: bool = False,
    ) -> Tensor:
        """Evaluate the objective for one chunk of particles and leave each particle's gradient in its leaves.

        :param chunk: index into :attr:`chunks`
        :param objective: ``objective(network, *batch) -> scalar``
        :param batch: arguments of the objective; shared by all particles, or with a first axis of ``n_particles``
        :param per_particle: whether the batch has that axis
        :param scale: [particles of the chunk] factors of the gradients
        :param defer: leave gradients that are products as their factors, for :meth:`take_deferred`
        :return: losses [particles of the chunk], detached
        """
        rows = self._chunks[chunk]
        buffers = {n: b[rows].clone() for n, b in self.buffers.items()}
        part = [b[rows] for b in batch] if per_particle else batch
        plain = None if self._checked else _plain_state(self.module)
        losses: Tensor
        losses, new = self._run(self._stack(chunk, True), buffers, objective, part, per_particle)
        if plain is not None:
            _refuse_hidden_state(self.module)
            _refuse_changes(plain, _plain_state(self.module))
            self._checked = True
        if losses.dim() != 1:
            raise ConfigError(f"the loss of one particle must be a scalar, got shape {tuple(losses.shape[1:])}")
        self._pool.deferring = defer
        self._pool.deferred.clear()
        torch.autograd.backward(losses.sum() if scale is None else (losses * scale).sum())
        losses = losses.detach()
        self._keep(rows, new, losses.isfinite())
        return losses

    def take_deferred(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return what the last :meth:`backward` deferred, once: (leaf, left, right), with gradients left @ right."""
        deferred, self._pool.deferred = self._pool.deferred, []
        return deferred

    def _keep(self, rows: slice, new: dict[str, Tensor], healthy: Tensor) -> None:
        """Take up new buffers where the loss is finite: a broken batch must not live on in averages."""
        for name, value in new.items():
            held = self.buffers[name][rows]
            held.copy_(torch.where(healthy.view(-1, *(1,) * (held.dim() - 1)), value.detach(), held))

    @torch.no_grad()
    def evaluate(
        self, chunk: int, function: Callable[..., Any], batch: Sequence[Tensor], *, per_particle: bool = False
    ) -> Tensor:
        """Return ``function(network, *batch)`` for one chunk of particles; buffers are left as they are."""
        rows = self._chunks[chunk]
        buffers = {n: b[rows].clone() for n, b in self.buffers.items()}
        part = [b[rows] for b in batch] if per_particle else batch
        value, _ = self._run(self._stack(chunk, False), buffers, function, part, per_particle)
        return value  # type: ignore[no-any-return]

    @torch.no_grad()
    def outputs(
        self,
        *inputs: Tensor,
        per_particle: bool = False,
        state: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield (particles, outputs [particles, batch, ...]) chunk by chunk, in the module's present mode.

        ``state`` runs other stacked (parameters, buffers) than the ensemble's own, such as a :meth:`snapshot`.
        """
        size = self.chunk_size or self._auto_chunk or DEFAULT_CHUNK
        parameters, buffers = (self.parameters, self.buffers) if state is None else state
        for start in range(0, self.n_particles, size):
            rows = slice(start, min(start + size, self.n_particles))
            value, _ = self._run(
                {n: p[rows] for n, p in parameters.items()},
                {n: b[rows].clone() for n, b in buffers.items()},
                lambda network, *arguments: network(*arguments),
                [b[rows] for b in inputs] if per_particle else inputs,
                per_particle,
            )
            yield rows, value

    def __call__(self, *inputs: Tensor, per_particle: bool = False) -> Tensor:
        """Return the outputs of all particles, [n_particles, batch, ...], without gradients."""
        return torch.cat([value for _, value in self.outputs(*inputs, per_particle=per_particle)])

    @torch.no_grad()
    def copy_particles(self, sources: Tensor, targets: Tensor) -> None:
        """Overwrite the particles ``targets`` int64[k] (parameters and buffers) by the particles ``sources``."""
        for stack in (self.parameters, self.buffers):
            for value in stack.values():
                value[targets] = value[sources]


def _refuse_hidden_state(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        for attribute, value in vars(layer).items():
            if isinstance(value, Tensor):
                raise ConfigError(
                    f"{name or type(layer).__name__}.{attribute} is a tensor outside the module's parameters and "
                    "buffers, so all particles would share it: use self.register_buffer"
                )


def _plain_state(module: nn.Module) -> dict[str, Any]:
    """Return the numbers and sequences a module keeps as plain attributes, which a forward pass may change.

    Of a sequence's entries that are neither, such as the list of its weights in an LSTM, the type alone.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return [plain(entry) for entry in value]
        return value if isinstance(value, (int, float, str)) else type(value)

    return {
        f"{name or type(layer).__name__}.{attribute}": plain(value)
        for name, layer in module.named_modules()
        for attribute, value in vars(layer).items()
        if isinstance(value, (int, float, str, tuple, list))
    }


def _refuse_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name in after:
        if name not in before or before[name] != after[name]:
            raise ConfigError(
                f"{name} changes when the module runs: it would be shared by all particles and count batched calls; "
                "keep such state in a buffer (self.register_buffer)"
            )
