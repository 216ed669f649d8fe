"""ParticlePPO: one PPO whose policy is a weighted mixture of particles, each a whole policy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import explained_variance
from torch import Tensor

from farl.agents.particle_policy import Acting, ParticlePolicy
from farl.particles.ensemble import Backend, Objective
from farl.particles.initialisation import Initialisation
from farl.particles.policies import Evidence, PolicyWeights, mixture_log_prob, ppo_loss

_LOGGED_RETURNS = 16


class ParticlePPO(PPO):
    """PPO with N policies as particles of one filter (after the RL part of WPF, arXiv 2410.22695).

    All particles learn from one rollout buffer, each with its own optimiser on its own PPO loss, in batched calls;
    their weights follow their losses; what acts is made of all of them. The ratio of PPO is that of the particle to
    what acted, and the value that advantages are measured against is the particles' weighted mean. The paper's recipe
    is not public: what is chosen here is an option below. With one particle it is PPO.

    Everything else, ``policy_kwargs`` included, is as in ``stable_baselines3.PPO``; ``use_sde`` is not there.

    :param n_particles: N
    :param init: ``"independent"`` policies, or ``"noise"`` around one
    :param noise_scale: range of that noise's standard deviations
    :param acting: ``"mixture"`` of action distributions, one particle an episode (``"thompson"``), or the heaviest
        (``"map"``)
    :param evidence: what moves the weights: the whole PPO ``"loss"``, or its ``"policy"`` term
    :param particle_loss: what each particle descends: the whole ``"ppo"`` loss, or its ``"policy"`` term with the
        entropy bonus; then the value networks stay as they began
    :param beta: what a minibatch counts as evidence; 0 is plain averaging
    :param ess_floor: least effective sample size, as a share of the particles; 0 sets none
    :param forgetting: what remains of old evidence at each minibatch
    :param backend: what runs the batched calls, see ``ParticleEnsemble``
    :raises ValueError: for a wrong argument, or more particles than the memory holds
    """

    policy: ParticlePolicy  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        n_particles: int = 4,
        init: Initialisation = "independent",
        noise_scale: tuple[float, float] = (0.001, 0.04),
        acting: Acting = "mixture",
        evidence: Evidence = "loss",
        particle_loss: str = "ppo",
        beta: float = 1.0,
        ess_floor: float = 0.5,
        forgetting: float = 1.0,
        backend: Backend = "auto",
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        choices = {
            "acting": (acting, ("mixture", "thompson", "map")),
            "evidence": (evidence, ("loss", "policy")),
            "particle_loss": (particle_loss, ("ppo", "policy")),
            "init": (init, ("independent", "noise")),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
        if n_particles < 1:
            raise ValueError(f"n_particles must be at least 1, got {n_particles}")
        PolicyWeights((1,), beta, ess_floor, forgetting)  # refuses what is out of range, before memory is taken
        self.n_particles, self.init, self.noise_scale = n_particles, init, noise_scale
        self.acting, self.evidence, self.particle_loss = acting, evidence, particle_loss
        self.beta, self.ess_floor, self.forgetting = beta, ess_floor, forgetting
        self.backend = backend
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        super()._setup_model()
        first: Any = self.policy

        def make() -> ActorCriticPolicy:
            made: ActorCriticPolicy = self.policy_class(  # type: ignore[assignment]
                self.observation_space, self.action_space, self.lr_schedule, use_sde=self.use_sde, **self.policy_kwargs
            )
            return made

        self.policy = ParticlePolicy(
            make,
            first,
            self.n_particles,
            self.init,
            self.noise_scale,
            self.acting,
            lambda: PolicyWeights((self.n_particles,), self.beta, self.ess_floor, self.forgetting, self.device),
            self.backend,
            self.seed or 0,
        )
        self._acted = np.zeros((self.n_envs, self.n_particles))
        self._returns = np.full(self.n_particles, np.nan)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: npt.NDArray[np.bool_] | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        self.policy.begins = dones
        self._acted[np.arange(self.n_envs), self.policy.chosen.numpy()] += 1
        for env, info in enumerate(infos):
            if "episode" in info:
                # An episode's return counts for each particle as often as it acted.
                share = self._acted[env] / self._acted[env].sum()
                known = np.nan_to_num(self._returns, nan=info["episode"]["r"])
                self._returns = np.where(share > 0, known + 0.1 * share * (info["episode"]["r"] - known), self._returns)
                self._acted[env] = 0

    def particle_state(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the weights, summing to 1, and the mean returns of the particles' latest episodes, float64[N] each.

        A return is NaN where a particle has not acted in an episode that ended.
        """
        log_weights = self.policy.weights.log_weights.detach().double()
        return torch.softmax(log_weights, 0).cpu().numpy(), self._returns.copy()

    def _objective(self, clip_range: float, clip_range_vf: float | None, surrogate_alone: bool = False) -> Objective:
        """The loss of one particle, given its network and a minibatch; or the surrogate that stands in it."""
        kind, ent_coef = self.policy.kind, self.ent_coef
        vf_coef = self.vf_coef if self.particle_loss == "ppo" else 0.0

        def objective(network: Callable[..., Tensor], *batch: Any) -> Tensor:
            observations, actions, old_log_prob, advantages, returns, old_values = batch
            both = network(observations)
            log_prob, entropy = kind.evaluate(both[..., :-1], actions)
            values = both[..., -1]
            if clip_range_vf is not None:
                values = old_values + torch.clamp(values - old_values, -clip_range_vf, clip_range_vf)
            loss, policy, _, _ = ppo_loss(
                log_prob, old_log_prob, entropy, values, advantages, returns, clip_range, ent_coef, vf_coef
            )
            return policy if surrogate_alone else loss

        return objective

    def train(self) -> None:
        """Update every particle from the rollout buffer, and the weights with each minibatch."""
        policy, ensemble = self.policy, self.policy.ensemble
        policy.set_training_mode(True)
        clip_range = float(self.clip_range(self._current_progress_remaining))  # type: ignore[operator]
        clip_range_vf = None
        if self.clip_range_vf is not None:
            clip_range_vf = float(self.clip_range_vf(self._current_progress_remaining))  # type: ignore[operator]
        objective = self._objective(clip_range, clip_range_vf)
        surrogate = self._objective(clip_range, clip_range_vf, surrogate_alone=True)
        losses: list[Tensor] = []
        going_on = True
        for _ in range(self.n_epochs):
            for data in self.rollout_buffer.get(self.batch_size):
                batch = self._batch(data)
                ensemble.resolve(objective, batch)
                if not losses:
                    self._update_learning_rate(policy.optimizer)
                if self.target_kl is not None and self._kl(batch, self._log_probs(batch)) > 1.5 * self.target_kl:
                    going_on = False
                    break
                losses.append(self._step(objective, surrogate, batch))
            self._n_updates += 1
            if not going_on:
                break
        self._log(losses, batch, clip_range)

    def _batch(self, data: Any) -> tuple[Any, ...]:
        actions = data.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        advantages = data.advantages
        if self.normalize_advantage and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return data.observations, actions, data.old_log_prob, advantages, data.returns, data.old_values

    def _step(self, objective: Objective, surrogate: Objective, batch: tuple[Any, ...]) -> Tensor:
        """One minibatch for all particles; returns their losses [N]."""
        policy, ensemble = self.policy, self.policy.ensemble
        losses, evidence, sound = [], [], True
        for chunk in range(len(ensemble.chunks)):
            if self.evidence == "policy" and self.n_particles > 1:
                evidence.append(ensemble.evaluate(chunk, surrogate, batch))
            loss = ensemble.backward(chunk, objective, batch)
            clip_gradients(ensemble.leaves(chunk), self.max_grad_norm)
            sound &= policy.optimizer.particles.step(chunk, loss)
            losses.append(loss)
        if self.n_particles > 1:
            policy.weights.update(torch.cat(evidence or losses))
        if not sound:
            policy.redraw(torch.cat(losses).isfinite())
        return torch.cat(losses)

    def _log_probs(self, batch: tuple[Any, ...]) -> Tensor:
        """Of the minibatch's actions under each particle, [N, B]."""
        outputs, _ = self.policy.outputs(batch[0])
        log_prob, _ = self.policy.kind.evaluate(outputs, batch[1].expand(len(outputs), *batch[1].shape))
        return log_prob

    def _kl(self, batch: tuple[Any, ...], log_probs: Tensor) -> float:
        """Approximate divergence of the mixture from what acted (Schulman's third estimator), as in SB3."""
        change = mixture_log_prob(self.policy.weights.log_weights.float(), log_probs) - batch[2]
        return float((change.exp() - 1 - change).mean())

    def _log(self, losses: list[Tensor], batch: tuple[Any, ...], clip_range: float) -> None:
        record, weights = self.logger.record, self.policy.weights
        if losses:
            record("train/loss", float(torch.stack(losses).mean()))
        log_probs = self._log_probs(batch)
        ratio = torch.exp(log_probs - batch[2])
        record("train/approx_kl", self._kl(batch, log_probs))
        record("train/clip_fraction", float(((ratio - 1).abs() > clip_range).float().mean()))
        buffer = self.rollout_buffer
        record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/clip_range", clip_range)
        record("particles/ess", float(weights.effective_sample_size()))
        record("particles/weight_entropy", float(weights.entropy()))
        record("particles/temperature", float(weights.temperature))
        record("particles/kl_to_mixture", self.policy.spread(batch[0]))
        for particle, value in enumerate(self._returns[:_LOGGED_RETURNS]):
            if np.isfinite(value):
                record(f"particles/return_{particle}", float(value))

    def predict(
        self,
        observation: Any,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Return what the mixture does; for Thompson sampling hand ``state`` in again with the next call."""
        return self.policy.predict(observation, state, episode_start, deterministic)


def clip_gradients(leaves: dict[str, Tensor], max_norm: float) -> None:
    """Scale each particle's gradients down to a norm of at most ``max_norm``, over all its parameters together."""
    gradients = [leaf.grad for leaf in leaves.values() if leaf.grad is not None]
    if not gradients:
        return
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = (max_norm / (norms + 1e-6)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.dim() - 1)))
