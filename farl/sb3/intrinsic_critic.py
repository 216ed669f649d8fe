"""The value function of the intrinsic reward, beside the policy's own critic."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from torch import Tensor, nn

from farl.sb3.fast.flat_adam import ClippedSteps
from farl.sb3.fast.networks import ParallelMLP
from farl.sb3.fast.policies import sees_rows_alone
from farl.sb3.fast.repeats import Samples
from farl.sb3.fast.vectors import Vectors
from farl.sb3.observations import Array


class IntrinsicCritic:
    """Estimates the intrinsic return of observations, and gives advantages and targets for a whole rollout at once.

    A network of its own rather than a second head: the algorithm's ``train`` stays untouched, whatever it is. The
    price is that policy and intrinsic value share no trunk, unlike in Burda et al. (2019).

    As SB3's own networks it is in training mode only while it is trained, which matters where the features extractor
    has dropout or batch normalisation.

    :param policy: whose observation space and kind of features extractor the critic takes over
    :param hidden: widths of the hidden layers behind the features extractor
    :param learning_rate: Adam's
    :param gamma: discount of the intrinsic return
    :param gae_lambda: lambda of generalised advantage estimation (Schulman et al., 2016)
    :param episodic: whether the intrinsic return ends with an episode
    :param seed: starts the weights and the order of minibatches; the global random state is left alone
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        hidden: tuple[int, ...],
        learning_rate: float,
        gamma: float,
        gae_lambda: float,
        episodic: bool,
        seed: int,
    ) -> None:
        self.observation_space = policy.observation_space
        self.normalize_images = policy.normalize_images
        self.gamma, self.gae_lambda, self.episodic = gamma, gae_lambda, episodic
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            extractor = _features_extractor(policy)
            layers = create_mlp(extractor.features_dim, 1, list(hidden), nn.Tanh)
            self.network = nn.Sequential(extractor, *layers).to(policy.device).eval()
        self.optimizer = torch.optim.Adam(self.network.parameters(), learning_rate)
        self._vectors = Vectors.of(self.observation_space, extractor, self.normalize_images)
        self._mlp: ParallelMLP | None = None
        if self._vectors is not None:
            self._mlp = ParallelMLP.of(layers[:-1], layers[-1])
        order = list(self.network.parameters()) if self._mlp is None else self._mlp.order
        self._steps = ClippedSteps(self.optimizer, self.network, order)
        self._generator = torch.Generator().manual_seed(seed)

    def predict(self, observations: Any) -> Tensor:
        """Return the intrinsic value of B observations as the policy sees them, float32[B]."""
        processed = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        return self.network(processed).squeeze(-1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def advantages(
        self, buffer: RolloutBuffer, rewards: Array, last_observations: Any, last_dones: Array
    ) -> tuple[Array, Array]:
        """Generalised advantage estimation of the intrinsic reward over a full rollout of T steps.

        :param buffer: holds the observations and where episodes began
        :param rewards: float32[T, E], intrinsic
        :param last_observations: what followed the rollout, E observations
        :param last_dones: bool[E], whether the last step ended an episode
        :return: advantages and returns, float32[T, E]
        """
        steps, n_envs = rewards.shape
        self._begin()
        last_values = self._evaluate(last_observations)
        values = np.concatenate([self._evaluate(_flat(buffer.observations)).reshape(steps, n_envs), last_values[None]])
        goes_on = np.ones((steps, n_envs), np.float32)
        if self.episodic:
            goes_on[:-1] = 1.0 - buffer.episode_starts[1:]
            goes_on[-1] = 1.0 - last_dones
        delta = rewards + self.gamma * values[1:] * goes_on - values[:-1]
        advantages = discounted_sums(delta, goes_on, self.gamma * self.gae_lambda)
        return advantages, advantages + values[:-1]

    def train(self, buffer_observations: Any, returns: Array, epochs: int, batch_size: int) -> float:
        """Regress the values on the returns and return the mean squared error of the last epoch.

        :param buffer_observations: [T, E, ...], or a dict of such
        :param returns: float32[T, E]
        """
        self._begin()
        pick = self._picker(self._seen(_flat(buffer_observations)))
        targets = torch.from_numpy(returns.reshape(-1))
        losses: list[Tensor] = []
        self.network.train()
        with self._own_randomness():
            for _ in range(epochs):
                losses.clear()
                for rows in self._minibatches(len(targets), batch_size):
                    observations, where = pick(rows)
                    self._steps.zero_gradient()
                    losses.append(self._backward(observations, where, self._pick(targets, rows)))
                    self._steps.step(max_norm=0.5)
        self._steps.end()
        self.network.eval()
        return float(torch.stack(losses).mean())

    def _begin(self) -> None:
        """Take up network and optimiser as they are now."""
        self._steps.begin()
        if self._mlp is not None:
            self._mlp.bind()

    def _backward(self, observations: Any, where: Tensor | None, targets: Tensor) -> Tensor:
        """Add the gradient of the mean squared error of B values, and return it.

        :param observations: B, or fewer, of which value b is that of number ``where[b]``
        """
        if self._mlp is None:
            values = self.predict(observations)
            values = values if where is None else values.index_select(0, where)
            loss = nn.functional.mse_loss(values, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        (made,) = self._mlp.outputs(observations)
        values = made[:, 0]
        error = (values if where is None else values.index_select(0, where)) - targets
        gradient = error * (2.0 / len(error))
        if where is not None:
            gradient = torch.zeros_like(values).index_add_(0, where, gradient)
        self._mlp.backward([gradient.unsqueeze(1)])
        return error.square().mean()

    def _minibatches(self, samples: int, size: int) -> list[Tensor]:
        """Deal out samples in random order; a last one that is left over joins the others before it."""
        parts = list(torch.split(torch.randperm(samples, generator=self._generator), size))
        if len(parts) > 1 and len(parts[-1]) == 1:  # batch normalisation cannot train on a single sample
            last = parts.pop()
            parts[-1] = torch.cat([parts[-1], last])
        return parts

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Let dropout draw from the critic's own seed: the global random state is left alone."""
        device = next(self.network.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Of the same state as the order of minibatches, and so saved with it.
            torch.set_rng_state(self._generator.get_state())
            torch.manual_seed(int(torch.randint(2**62, ())))
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser and random state."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned."""
        self.network.load_state_dict(state["network"], strict=strict)
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"].cpu())

    def _evaluate(self, observations: Any, size: int = 1024) -> Array:
        """Return the values of N observations, float32[N], without holding all activations at once."""
        tensors = self._seen(observations)
        count = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
        pick, values = self._picker(tensors), []
        for rows in torch.split(torch.arange(count), size):
            picked, where = pick(rows)
            made = self.predict(picked) if self._mlp is None else self._mlp.outputs(picked)[0][:, 0]
            values.append(made if where is None else made.index_select(0, where))
        return torch.cat(values).cpu().numpy()

    def _seen(self, observations: Any) -> Any:
        """Return N observations as tensors, as the network takes them."""
        tensors = _tensors(observations)
        return tensors if self._mlp is None or self._vectors is None else self._vectors(tensors)

    def _picker(self, tensors: Any) -> Callable[[Tensor], tuple[Any, Tensor | None]]:
        """Return what picks observations by row, equal ones once where that changes nothing; see ``Samples.pick``."""
        on_cpu = next(self.network.parameters()).device.type == "cpu"
        if on_cpu and isinstance(tensors, Tensor) and all(map(sees_rows_alone, self.network.modules())):
            return Samples(tensors, sparse=self._mlp is not None).pick
        return lambda rows: (self._pick(tensors, rows), None)

    def _pick(self, tensors: Any, rows: Tensor) -> Any:
        """Return some rows, on the network's device."""
        if isinstance(tensors, dict):
            return {name: self._pick(part, rows) for name, part in tensors.items()}
        return tensors.index_select(0, rows).to(next(self.network.parameters()).device)


def _features_extractor(policy: ActorCriticPolicy) -> BaseFeaturesExtractor:
    """Return a new features extractor of the policy's kind; of SB3's default kind for policies without one in torch."""
    kind: Any = policy.features_extractor_class
    space = policy.observation_space
    if isinstance(kind, type) and issubclass(kind, BaseFeaturesExtractor):
        return policy.make_features_extractor()
    if isinstance(space, spaces.Dict):
        return CombinedExtractor(space)
    return NatureCNN(space) if is_image_space(space) else FlattenExtractor(space)


def discounted_sums(values: Array, goes_on: Array, discount: float) -> Array:
    """Return the sum of all that follows, discounted by the step: values and ``goes_on`` (0 at an end) [T, E]."""
    sums = np.zeros_like(values, np.float32)
    following = np.zeros(values.shape[1:], np.float32)
    for step in reversed(range(len(values))):
        following = values[step] + discount * goes_on[step] * following
        sums[step] = following
    return sums


def _flat(observations: Any) -> Any:
    """[T, E, ...] -> [T * E, ...]; dicts by entry."""
    if isinstance(observations, dict):
        return {name: _flat(part) for name, part in observations.items()}
    return observations.reshape(-1, *observations.shape[2:])


def _tensors(observations: Any) -> Any:
    if isinstance(observations, dict):
        return {name: torch.as_tensor(part) for name, part in observations.items()}
    return torch.as_tensor(observations)
