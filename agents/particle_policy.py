"""N copies of any Stable-Baselines3 actor-critic policy as weighted particles that act together."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from torch import Tensor, nn

from farl.particles.ensemble import Backend, ParticleEnsemble
from farl.particles.group import ParticleGroup
from farl.particles.initialisation import Initialisation, draw_particles
from farl.particles.interaction import Interaction
from farl.particles.optimisation import ParticleOptimizer
from farl.particles.policies import PolicyWeights, mixture_log_prob

Acting = Literal["mixture", "thompson", "map"]


class ActionDistributions:
    """Distributions over the actions of a space, from what the networks put out; leading axes are free.

    :param space: Discrete, MultiDiscrete, MultiBinary or Box (a diagonal Gaussian)
    :raises ValueError: for another space
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Box):
            raise ValueError(
                f"ParticlePPO cannot act in {space}; it takes Discrete, MultiDiscrete, MultiBinary and Box"
            )
        self.space = space

    def evaluate(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (log-probabilities, entropies) [..., B] of ``actions`` [..., B, *action] under ``outputs``."""
        if isinstance(self.space, spaces.Box):
            mean, log_std = outputs.chunk(2, -1)
            normal: Any = torch.distributions.Normal(mean, log_std.exp(), validate_args=False)
            return normal.log_prob(actions).sum(-1), normal.entropy().sum(-1)
        if isinstance(self.space, spaces.MultiBinary):
            bernoulli: Any = torch.distributions.Bernoulli(logits=outputs, validate_args=False)
            return bernoulli.log_prob(actions).sum(-1), bernoulli.entropy().sum(-1)
        log_prob, entropy = outputs.new_zeros(()), outputs.new_zeros(())
        for k, logits in enumerate(self._categories(outputs)):
            log_probs = logits.log_softmax(-1)
            taken = actions.long() if isinstance(self.space, spaces.Discrete) else actions[..., k].long()
            taken = taken.expand(log_probs.shape[:-1])
            log_prob = log_prob + log_probs.gather(-1, taken[..., None])[..., 0]
            entropy = entropy - (log_probs.exp() * log_probs).sum(-1)
        return log_prob, entropy

    def sample(self, outputs: Tensor) -> Tensor:
        """Return actions [..., B, *action] for ``outputs`` [..., B, D], drawn as SB3's distributions draw them."""
        if isinstance(self.space, spaces.Box):
            mean, log_std = outputs.chunk(2, -1)
            return torch.distributions.Normal(mean, log_std.exp()).rsample()
        if isinstance(self.space, spaces.MultiBinary):
            return torch.bernoulli(outputs.sigmoid())
        categorical: Any = torch.distributions.Categorical
        drawn = [categorical(logits=logits).sample() for logits in self._categories(outputs)]
        return drawn[0] if isinstance(self.space, spaces.Discrete) else torch.stack(drawn, -1)

    def best(self, log_weights: Tensor, outputs: Tensor) -> Tensor:
        """Return the mixture's likeliest actions [B, *action] for weights [N, B] and ``outputs`` [N, B, ...].

        Of each number of the action by itself; for Box, the mixture's mean.
        """
        weights = log_weights.exp()[..., None]
        if isinstance(self.space, spaces.Box):
            return (weights * outputs.chunk(2, -1)[0]).sum(0)
        if isinstance(self.space, spaces.MultiBinary):
            return ((weights * outputs.sigmoid()).sum(0) > 0.5).float()
        best = [(weights * logits.softmax(-1)).sum(0).argmax(-1) for logits in self._categories(outputs)]
        return best[0] if isinstance(self.space, spaces.Discrete) else torch.stack(best, -1)

    def _categories(self, outputs: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.space, spaces.MultiDiscrete):
            return torch.split(outputs, self.space.nvec.tolist(), -1)
        return (outputs,)


class _Outputs(nn.Module):
    """A policy whose forward pass is one tensor [B, D + 1]: the distribution's parameters, and the value."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Any) -> Tensor:
        policy = self.policy
        features = policy.extract_features(observations)
        if policy.share_features_extractor:
            latent_pi, latent_vf = policy.mlp_extractor(features)
        else:
            latent_pi = policy.mlp_extractor.forward_actor(features[0])
            latent_vf = policy.mlp_extractor.forward_critic(features[1])
        parts = [policy.action_net(latent_pi)]
        if isinstance(policy.action_space, spaces.Box):
            parts.append(policy.log_std.expand_as(parts[0]))
        return torch.cat([*parts, policy.value_net(latent_vf)], -1)


class PolicyOptimizer:
    """The particles' optimisers as Stable-Baselines3 saves and loads an optimiser."""

    def __init__(self, ensemble: ParticleEnsemble, factory: Callable[[list[Tensor]], torch.optim.Optimizer]) -> None:
        self.particles = ParticleOptimizer(ensemble, factory)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of all chunks: a learning-rate schedule writes to them."""
        return [group for each in self.particles.each for group in each.param_groups]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of all particles."""
        return self.particles.state()

    def load_state_dict(self, state: dict[str, Tensor], strict: bool = True) -> None:
        """Take up what :meth:`state_dict` returned; an empty state begins anew."""
        for each in self.particles.each:
            each.state.clear()
            getattr(each, "base", each).state.clear()
        self.particles.load(state)


class ParticlePolicy(BasePolicy):
    """Particles that are policies, and the mixture of them that acts.

    :param make: makes one policy, initialised anew each time
    :param first: the first particle
    :param n_particles: N
    :param init: the others: ``"independent"`` policies, or the first one plus ``"noise"`` (then added to all)
    :param acting: ``"mixture"`` of distributions, one particle an episode (``"thompson"``), or the heaviest (``"map"``)
    :param make_weights: makes the weights of the particles, once it is known that these fit into memory
    """

    def __init__(
        self,
        make: Callable[[], ActorCriticPolicy],
        first: ActorCriticPolicy,
        n_particles: int,
        init: Initialisation,
        noise_scale: tuple[float, float],
        acting: Acting,
        make_weights: Callable[[], PolicyWeights],
        backend: Backend,
        seed: int,
    ) -> None:
        if first.use_sde:
            raise ValueError("ParticlePPO has no state-dependent exploration: leave use_sde at false")
        super().__init__(first.observation_space, first.action_space)
        self.acting = acting
        self.kind = ActionDistributions(first.action_space)
        device = first.device
        # Copies first: that refuses more particles than the memory holds, before any other is made.
        self.ensemble = ParticleEnsemble(
            _Outputs(first), n_particles, noise_scale=(0.0, 0.0), backend=backend, device=device
        )
        self.weights = make_weights()
        if n_particles > 1 and init == "noise":
            noisy = draw_particles(self.ensemble.module, range(n_particles), "noise", noise_scale, seed)[0]
            for name, value in self.ensemble.parameters.items():
                value.copy_(noisy[name])
        elif n_particles > 1:
            for particle in range(1, n_particles):
                for name, value in _Outputs(make()).named_parameters():
                    self.ensemble.parameters[name][particle] = value.detach().to(device)
        self._choice = torch.Generator().manual_seed(seed)
        self.chosen = torch.zeros(0, dtype=torch.int64)
        """Particle that drew the last action of each environment, int64[E]."""
        self.begins: npt.NDArray[np.bool_] | None = None
        """Where the next observations begin an episode, bool[E]; None where nobody says."""

        def factory(parameters: list[Tensor]) -> torch.optim.Optimizer:
            options = dict(first.optimizer_kwargs)
            if "per_particle" in inspect.signature(first.optimizer_class).parameters:
                options["per_particle"] = True
            return first.optimizer_class(parameters, lr=first.optimizer.param_groups[0]["lr"], **options)  # type: ignore[call-arg]

        self.optimizer: Any = PolicyOptimizer(self.ensemble, factory)

    @property
    def device(self) -> torch.device:
        """Where the particles are."""
        return self.ensemble.device

    def set_training_mode(self, mode: bool) -> None:
        """Set training or evaluation mode of all particles."""
        self.ensemble.train(mode)
        self.training = mode

    @torch.no_grad()
    def outputs(self, observations: Any) -> tuple[Tensor, Tensor]:
        """Return the distributions' parameters [N, B, D] and values [N, B] of all particles."""
        both = self.ensemble(observations)
        return both[..., :-1], both[..., -1]

    def forward(self, observations: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions [B, *action], values [B, 1] and log-probabilities [B] of what acts."""
        outputs, values = self.outputs(observations)
        log_weights = self.weights.log_weights.to(values)
        batch = values.shape[1]
        acting = log_weights[:, None].expand(-1, batch)
        self._choose(log_weights, batch)
        chosen = self.chosen.to(values.device)
        if self.acting != "mixture":
            acting = torch.full_like(acting, -torch.inf).scatter(0, chosen[None], 0.0)
        if deterministic:
            actions = self.kind.best(acting, outputs)
        else:
            # To draw from a mixture, draw a particle and then from it.
            actions = self.kind.sample(outputs[chosen, torch.arange(batch, device=values.device)])
        log_prob, _ = self.kind.evaluate(outputs, actions.expand(len(values), *actions.shape))
        log_prob = (acting + log_prob).logsumexp(0) if len(values) > 1 else log_prob[0]
        value = (log_weights.exp()[:, None] * values).sum(0)
        return actions.reshape(-1, *(self.action_space.shape or ())), value[:, None], log_prob

    def _choose(self, log_weights: Tensor, batch: int) -> None:
        """Choose the particle of each environment; from a stream of its own, so that one particle disturbs nothing."""
        if len(log_weights) == 1:
            self.chosen = torch.zeros(batch, dtype=torch.int64)
            return
        if self.acting == "map":
            self.chosen = log_weights.argmax().cpu().expand(batch)
            return
        drawn = torch.multinomial(log_weights.exp().cpu(), batch, replacement=True, generator=self._choice)
        if self.acting == "mixture" or len(self.chosen) != batch:
            self.chosen = drawn
        elif self.begins is not None:
            self.chosen = torch.where(torch.from_numpy(np.asarray(self.begins, bool)), drawn, self.chosen)

    def redraw(self, healthy: Tensor) -> None:
        """Replace the particles that are not ``healthy`` bool[N] by others plus noise, as the weighted filter does.

        :raises ImpossibleEvidenceError: if none is healthy
        """
        among = Interaction(self.ensemble, self.optimizer.particles, ParticleGroup(), 1, len(healthy), self._choice)
        self.weights.set_evidence(among.redraw(self.weights.evidence, healthy))

    def predict_values(self, observations: Any) -> Tensor:
        """Return the weighted mean of the particles' values, [B, 1]."""
        _, values = self.outputs(observations)
        return (self.weights.log_weights.exp().to(values)[:, None] * values).sum(0)[:, None]

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        actions: Tensor = self(observation, deterministic)[0]
        return actions

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return actions and, for Thompson sampling, the particles that act, to be handed in with the next call."""
        kept, self.begins = (self.chosen, self.begins), episode_start
        if state is not None:
            self.chosen = torch.from_numpy(state[0])
        elif self.acting == "thompson":
            self.chosen = torch.zeros(0, dtype=torch.int64)
        actions, _ = super().predict(observation, None, episode_start, deterministic)
        state = (self.chosen.numpy().copy(),) if self.acting == "thompson" else None
        self.chosen, self.begins = kept
        return actions, state

    def spread(self, observations: Any) -> float:
        """Return the mean Kullback-Leibler divergence of a particle to the mixture, in nats; 0 for continuous actions.

        Mean over particles with their weights, and over observations. By the particles' own samples: one for each.
        """
        outputs, _ = self.outputs(observations)
        log_weights = self.weights.log_weights.to(outputs)
        n = len(outputs)
        with torch.random.fork_rng(devices=[outputs.device] if outputs.is_cuda else []):
            actions = self.kind.sample(outputs)
        # [who acted, under whom, batch]
        log_prob, _ = self.kind.evaluate(
            outputs.expand(n, *outputs.shape), actions[:, None].expand(n, n, *actions.shape[1:])
        )
        mixture = mixture_log_prob(log_weights.expand(n, n), log_prob)
        own = log_prob.diagonal().T
        return float((log_weights.exp() * (own - mixture).mean(-1)).sum())

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return particles, weights and the stream that chooses particles."""
        return {
            "parameters": {name: value.clone() for name, value in self.ensemble.parameters.items()},
            "buffers": {name: value.clone() for name, value in self.ensemble.buffers.items()},
            "evidence": self.weights.evidence.clone(),
            "choice": self._choice.get_state(),
            "chosen": self.chosen.clone(),
            "begins": None if self.begins is None else torch.from_numpy(np.array(self.begins, bool)),
        }

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Take up what :meth:`state_dict` returned.

        :raises ValueError: for another number of particles or another network
        """
        for own, given in ((self.ensemble.parameters, "parameters"), (self.ensemble.buffers, "buffers")):
            for name, value in own.items():
                saved = state_dict[given].get(name)
                if saved is None or saved.shape != value.shape:
                    raise ValueError(
                        f"the saved particles do not fit: {name} should have the shape {tuple(value.shape)}"
                    )
                value.copy_(saved)
        self.weights.set_evidence(state_dict["evidence"])
        self._choice.set_state(state_dict["choice"].cpu())
        self.chosen = state_dict["chosen"].cpu()
        begins = state_dict.get("begins")
        self.begins = None if begins is None else begins.cpu().numpy()
