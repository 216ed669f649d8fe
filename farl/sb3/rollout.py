"""What happens in a vector environment, until a curiosity takes it in: for ``FAR(Algorithm)`` and ``FARVecEnv``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from farl.curiosity import CuriosityStep, Seen, Transitions
from farl.fragmentation import Events, Sight
from farl.plain import Known, from_plain, to_plain
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig
from farl.sb3.observations import Array, Observation, ObservationAdapter, action_spec, require_finite, true_last
from farl.sb3.unnormalised import Unnormalised

_KNOWN: Known = {kind.__name__: kind for kind in (CuriosityStep, Events, Seen, Sight, Transitions)}
_PRESENT = ("latest", "_starts", "_observations")


class Rollout:
    """Steps of a vector environment on their way to a curiosity, which it builds for the environment's spaces.

    ``add`` makes a transition of what the environment returned; ``take_in`` shows the curiosity all that came since the
    last time, which is much cheaper for many steps together than for one after the other; ``steps`` tells what it made
    of them, until ``clear`` begins the next rollout.

    :param config: what to build
    :param observation_space: what the environments show
    :param action_space: what they can be told
    :param n_envs: number of environments E
    :param device: where the curiosity modules lie
    :param seed: starts all that is drawn; None is a random one. The global random state is left alone
    """

    def __init__(
        self,
        config: FARConfig,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        n_envs: int,
        device: torch.device | str,
        seed: int | None,
    ) -> None:
        self._built_from = config, observation_space, action_space, n_envs, device
        self.config = config
        self.seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self.adapter = ObservationAdapter(observation_space)
        self.device = device
        self.curiosity = build_curiosity(
            config, self.adapter.shape, action_spec(action_space), n_envs, device, self.seed
        )
        self._unnormalised: Unnormalised | None = None
        self.latest = torch.empty(0)
        """What followed the latest step, as the adapter gives it: where an episode ended, its last observation."""
        self.steps: list[CuriosityStep] = []
        """What the curiosity made of the steps of this rollout, as far as it has taken them in."""
        self.rewards: list[Array] = []
        """float[E] each, what the environments paid in this rollout."""
        self.end: Any = None
        """Observations after its last step and where an episode starts, as the learner has them: environments may be
        exchanged before they are valued."""
        self._waiting: list[Seen] = []
        self._starts = np.ones(n_envs, bool)
        self._observations: torch.Tensor | None = None  # as the adapter gives them, of the step to come

    def attach(self, env: VecEnv) -> None:
        """Say which environment it is, before it is reset."""
        if self._unnormalised is None or self._unnormalised.env is not env:
            self._unnormalised, self._observations = Unnormalised(env), None

    def begin(self, observations: Observation, restarts: bool) -> None:
        """Take note of what the environments show before the first step.

        :param observations: E observations as they came out of the environment
        :param restarts: whether the environments have just been reset
        """
        assert self._unnormalised is not None
        if restarts:
            self._starts = np.ones(len(self._starts), bool)
        if restarts or self._observations is None:
            self._observations = self.adapter(self._unnormalised.reset(observations), self.device)

    def original_rewards(self, rewards: Array) -> Array:
        """Return the rewards of the latest step, [E], without ``VecNormalize``."""
        assert self._unnormalised is not None
        return self._unnormalised.original_rewards(rewards)

    def clear(self) -> None:
        """Begin the next rollout; steps that wait are still to be taken in."""
        self.steps, self.rewards = [], []

    def add(
        self, new_observations: Observation, actions: Array, rewards: Array, dones: Array, infos: list[dict[str, Any]]
    ) -> None:
        """Add one step of all environments, as ``env.step`` returned it."""
        assert self._unnormalised is not None
        assert self._observations is not None
        unnormalised, infos = self._unnormalised.step(new_observations, actions, dones, infos)
        latest = self.adapter(unnormalised, self.device)
        if latest.is_floating_point():
            require_finite("observation", latest)
        following = latest
        if dones.any():
            ended, last = true_last(dones, infos)
            if len(ended):
                following = latest.clone()
                following[torch.from_numpy(ended)] = self.adapter(last, self.device)
        transitions = Transitions(self._observations, torch.tensor(actions, device=self.device), following)
        self.rewards.append(rewards.copy())  # SB3 adds the value of what a time limit cut off
        self._waiting.append(Seen(transitions, self._starts, _positions(infos)))
        self._observations, self.latest = latest, following
        self._starts = np.array(dones, bool)

    def advise(self, dones: Array, allowed: Array | None = None) -> Array:
        """Return the module's advice for the next step of all environments, float32[E, width].

        :param dones: bool[E], whose observations are already those of the next episode
        :param allowed: bool[E, width], what can be done now, for nothing else is advised; None for all
        """
        module: Any = self.curiosity.module
        if dones.any():
            began = torch.from_numpy(np.flatnonzero(dones)).to(self.device)
            assert self._observations is not None
            module.arrive(self._observations[began], began, len(dones))
        advice: Array = module.advice
        if len(advice) != len(dones):
            return np.zeros((len(dones), module.n_advised), np.float32)
        if allowed is not None:
            module.close(allowed)
            advice = module.advice
        return advice

    def take_in(self) -> list[CuriosityStep]:
        """Show the curiosity all that waits, and return what it made of each step."""
        waiting, self._waiting = self._waiting, []
        taken = self.curiosity.steps(waiting) if waiting else []
        self.steps += taken
        return taken

    def update(self, record: Callable[[str, float], Any]) -> None:
        """Train the modules on what was seen since the last time, and record their state."""
        loss = self.curiosity.update()
        if loss is not None:
            record("far/module_loss", loss)
        record("far/fragments", len(self.curiosity.memory))
        record("far/fractures", self.curiosity.router.fractures)
        record("far/recalls", self.curiosity.recalls)
        for name, value in self.curiosity.forgetting.summary().items():
            record(f"far/{name}", value)
        record("far/memory_mb", self.curiosity.memory_bytes / 2**20)
        if self.config.memory.disk is not None:
            record("far/disk_mb", self.curiosity.memory.tiers.disk_bytes / 2**20)

    def open_state(self, rows: int | None = None) -> Any:
        """Return all that has been added since ``clear``, as plain data; the curiosity has a state of its own.

        :param rows: only of so many steps; None for all
        """
        steps = self.steps[:rows]
        waiting = self._waiting if rows is None else self._waiting[: rows - len(steps)]
        added = {"steps": steps, "rewards": self.rewards[:rows], "_waiting": waiting}
        return to_plain(added | {name: getattr(self, name) for name in _PRESENT}, _KNOWN)

    def take_up(self, state: Any, anew: bool = False) -> None:
        """Go on from what ``open_state`` returned.

        :param anew: whether new episodes have begun since
        """
        for name, value in from_plain(state, _KNOWN).items():
            if not (anew and name in _PRESENT):
                setattr(self, name, _moved(value, self.device))

    def __getstate__(self) -> dict[str, Any]:
        """Keep the curiosity's state instead of itself, and no wrappers: neither can be pickled."""
        leave_out = ("curiosity", "adapter", "_unnormalised")
        state = {name: value for name, value in self.__dict__.items() if name not in leave_out}
        return {**state, "curiosity_state": self.curiosity.state_dict(), "last": self.curiosity.last}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config, observation_space, action_space, n_envs, device = state["_built_from"]
        self.adapter = ObservationAdapter(observation_space)
        self.curiosity = build_curiosity(
            config, self.adapter.shape, action_spec(action_space), n_envs, device, state["seed"]
        )
        self.curiosity.load_state_dict(state.pop("curiosity_state"))
        self.curiosity.last, self._unnormalised = state.pop("last"), None
        self.__dict__.update(state)

    @property
    def is_normalised(self) -> bool:
        """Whether there is a ``VecNormalize``."""
        return self._unnormalised is not None and self._unnormalised.changes

    @property
    def is_due(self) -> bool:
        """Whether there are enough new samples for the modules to be trained where nothing else sets the pace."""
        return self.curiosity.samples_since_update >= self.config.batch_size

    def mixed(self, reward: Array) -> Array:
        """Return the weighted sum of a reward, [E], and the latest intrinsic reward, float32[E].

        It is a new array: integer rewards, as ale-py's, could not hold the sum.
        """
        assert self.curiosity.last is not None
        intrinsic = self.config.intrinsic_coef * self.curiosity.last.intrinsic_reward
        return (self.config.extrinsic_coef * reward + intrinsic).astype(np.float32)


def _moved(value: Any, device: torch.device | str) -> Any:
    """Return a value with all tensors on a device, those in lists and named tuples, too."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_moved(part, device) for part in value]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(part, device) for part in value))
    return value


def _positions(infos: list[dict[str, Any]]) -> Array | None:
    """Return where the environments are, for the edges of the memory graph: [E, k], or object[E] if only some tell, or
    in different ways; None if none does.

    One array: a rollout's worth of dicts and tuples would set off Python's garbage collector, which costs more than all
    of the curiosity.
    """
    told = [info.get("position") for info in infos]
    if all(each is None for each in told):
        return None
    if (together := _numbers(told)) is not None:
        return together
    apart = np.empty(len(told), object)
    for env, each in enumerate(told):
        apart[env] = _numbers(each)
    return apart


def _numbers(value: Any) -> Array | None:
    """Return finite numbers as an array, and None for anything else: text, enums, dicts, ragged lists, NaN."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor with gradients
        return None
    return array if array.dtype.kind in "iuf" and array.size and np.isfinite(array).all() else None
