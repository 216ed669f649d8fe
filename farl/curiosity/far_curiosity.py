"""FARCuriosity: fragmentation and recall over curiosity modules, independent of any RL library."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.bank import ModuleBank, ModuleState
from farl.curiosity.forgetting import ForgettingMeter
from farl.curiosity.lookahead import LookAhead
from farl.curiosity.module import CuriosityModule, Prepared, Transitions
from farl.curiosity.normalisation import RewardNorm
from farl.curiosity.pending import PendingSamples, Samples, fills_minibatches, minibatches, select
from farl.curiosity.replay import Reservoir
from farl.curiosity.steps import CuriosityStep, Seen, all_transitions
from farl.fragmentation import Events, FragmentationAndRecall
from farl.fragmentation.criteria import Criterion
from farl.fragmentation.recall import Recall, Where
from farl.memory import LongTermMemory

_CLEARLY = 0.999  # so much smaller is an error that is smaller by more than rounding
_AT_ONCE = 1024  # samples that are evaluated together, if as many are known


class FARCuriosity:
    """Intrinsic rewards from one curiosity module per fragment, recalled where the agent has been before.

    Hwang, Hong, Chen, Boopathy, Agrawal, Fiete, "Neuro-inspired fragmentation and recall to overcome catastrophic
    forgetting
    in curiosity" (arXiv 2310.17537). Each step is routed by environment: the surprisal is measured in the active
    fragment, the
    controller decides where the environment is, and reward and training sample go to the fragment it ends up in.
    Modules learn in ``update``; those no longer in use then return to long-term memory. Where a criterion takes some
    steps to be sure, samples under suspicion wait, and go to the fragment that the environment turns out to have gone
    to.

    During the first ``warmup`` samples the observation norm adapts, nothing is rewarded and nothing is fragmented.

    :param module: the kind of curiosity; what it remembers of each environment is saved and restored with it
    :param memory: long-term memory of module states, empty
    :param criterion: ends a fragment; None never does (one module, as without FAR)
    :param recall: recognises stored fragments
    :param n_envs: number of environments E
    :param confirm_recall: recall a fragment only where its module predicts what is seen better than the active one
        does.
        Around a fracture point both are recognised in turn; without this, an agent that lingers there is thrown to
        and fro
    :param join_within: steps for which other environments join a new fragment instead of opening their own; 0 never
    :param new_module: a new fragment starts as a ``"copy"`` of the one it follows, so that what that one knew does not
        become novel again while its own memory stays as it is; or ``"fresh"``, as published
    :param learning_rate: of the predictors
    :param gamma: discount of the intrinsic return, for the reward norm
    :param warmup: number of samples before the first reward
    :param train_fraction: share of the samples that is trained on, in (0, 1]
    :param epochs: passes over the samples in ``update``
    :param batch_size: samples of one fragment in one gradient step
    :param keep_loaded: modules that stay loaded after their use, the most recently used, so that coming back to them
        is cheap; those in use always are
    :param replay: joins every minibatch by as many samples from long ago, of the same fragments; None trains on what
        is new alone
    :param seed: of the choice and order of training samples
    """

    def __init__(
        self,
        module: CuriosityModule,
        memory: LongTermMemory[ModuleState],
        criterion: Criterion | None,
        recall: Recall,
        n_envs: int,
        confirm_recall: bool = True,
        join_within: int = 0,
        new_module: Literal["copy", "fresh"] = "copy",
        learning_rate: float = 1e-4,
        gamma: float = 0.99,
        warmup: int = 1000,
        train_fraction: float = 1.0,
        epochs: int = 1,
        batch_size: int = 64,
        keep_loaded: int = 0,
        replay: Reservoir | None = None,
        seed: int = 0,
    ) -> None:
        self.module = module
        self.memory = memory
        self.bank = ModuleBank(module, learning_rate)
        self.reward_norm = RewardNorm(n_envs, gamma)
        self.new_module = new_module
        self.warmup = warmup
        self.train_fraction = train_fraction
        self.epochs = epochs
        self.batch_size = batch_size
        self.keep_loaded = keep_loaded
        self.replay = replay
        self.samples_seen = 0
        """Number of transitions so far, the warm-up included."""
        self.samples_since_update = 0
        self.last: CuriosityStep | None = None
        """What the latest step gave."""
        self.forgetting = ForgettingMeter(seed=seed)
        """What is forgotten, as far as the module has features."""
        self._generator = torch.Generator().manual_seed(seed)
        self._pending = PendingSamples()
        self._last_update = 0  # value of samples_seen
        memory.on_evict.append(self._forget)
        confirm = self._predicts_better if confirm_recall else None
        self.controller = FragmentationAndRecall(
            criterion, memory, recall, n_envs, self._open, confirm, join_within=join_within
        )
        # Of this step: samples and surprisal; the fragments asked about, and the outputs of their modules.
        self._prepared: Prepared = {}
        self._surprisal, self._confirmed = np.zeros(n_envs), np.full(n_envs, -1)
        self._elsewhere: Prepared = {}

    @property
    def fragments(self) -> int:
        """Number of fragments opened so far, the first included."""
        return self.controller.fractures + 1

    @property
    def recalls(self) -> int:
        """Number of recalls so far."""
        return self.controller.recalls

    @property
    def memory_bytes(self) -> int:
        """Size of modules and keys on the device and in host memory, in bytes."""
        held = len(self.memory) - len(self.memory.tiers.on_disk)
        return held * self.bank.module_bytes + self.memory.keys.nbytes

    def step(
        self, transitions: Transitions, starts: npt.NDArray[np.bool_], where: Where | None = None
    ) -> CuriosityStep:
        """Take in one transition per environment and return the intrinsic rewards.

        :param transitions: E transitions
        :param starts: bool[E], True where this is the first transition of an episode
        :param where: one JSON-able mapping per environment that describes the place, kept with the graph's edges
        """
        return self.steps([Seen(transitions, starts, where)])[0]

    def steps(self, seen: Sequence[Seen]) -> list[CuriosityStep]:
        """Take in several steps, as so many calls of ``step`` would, but for rounding, and several times faster.

        For those who know what comes next before they need the rewards, as on-policy algorithms do.
        """
        done: list[CuriosityStep] = []
        at_once = max(1, _AT_ONCE // len(self.controller.active))
        while len(done) < len(seen):
            if self.samples_seen < self.warmup:
                done.append(self._warm_up(*seen[len(done)]))
                continue
            block = seen[len(done) : len(done) + at_once]
            prepared = self.module.prepare(all_transitions(block))
            ahead = LookAhead(self._evaluate, prepared, len(self.controller.active))
            for number, each in enumerate(block):
                done.append(self._advance(number, each, ahead))
        self.last = done[-1]
        return done

    def _warm_up(self, transitions: Transitions, starts: npt.NDArray[np.bool_], where: Where | None) -> CuriosityStep:
        """Take in a step without reward or fragmentation."""
        active = self.controller.active.copy()
        self._count(len(active))
        self.module.warm_up(transitions)
        prepared = self.module.prepare(transitions)
        outputs = self._evaluate(active, prepared)
        # The rewards are withheld, but their norm already learns how large they are.
        self.reward_norm(self._bonus(outputs, prepared, starts), active)
        stay = np.zeros(len(active), bool)
        return CuriosityStep(_to_numpy(outputs["surprisal"]), np.zeros(len(active)), Events(active, active, stay, stay))

    def _advance(self, number: int, seen: Seen, ahead: LookAhead) -> CuriosityStep:
        """Take in a step of a block."""
        n_envs = len(self.controller.active)
        self._count(n_envs)
        prepared, outputs = ahead.at(number, self.controller.active)
        surprisal = _to_numpy(outputs["surprisal"])
        self._prepared, self._surprisal, self._confirmed = prepared, surprisal, np.full(n_envs, -1)
        keys = prepared["features"].flatten(1).cpu().numpy() if "features" in prepared else None
        excursion = self._excursion()
        events = self.controller.step(surprisal, keys, seen.starts, seen.where)
        moved = np.flatnonzero(events.active != events.previous)
        if len(moved):
            for env in moved[excursion[moved] > 0]:
                since = self.samples_seen - (int(excursion[env]) + 1) * n_envs
                self._pending.reroute(int(env), int(events.active[env]), since)
            # Where a recall was just confirmed, its module's outputs are already known.
            other = moved[self._confirmed[moved] != events.active[moved]]
            if len(other):
                self._look_elsewhere(events.active[other], other)
            rows = torch.from_numpy(moved)
            for name, tensor in outputs.items():
                tensor[rows] = self._elsewhere[name][rows]
            surprisal = _to_numpy(outputs["surprisal"])
            ahead.moved(number, moved)
            for env in np.flatnonzero(events.fragmented):
                self.reward_norm.open(int(events.active[env]), int(events.previous[env]))
        reward = self.reward_norm(self._bonus(outputs, prepared, seen.starts), events.active)
        if keys is not None:
            self.forgetting.observe(keys, surprisal, reward)
        self._remember(prepared, events.active)
        return CuriosityStep(surprisal, reward, events)

    def update(self) -> float | None:
        """Train the modules on what was seen, and return the mean loss (None if no fragment had a minibatch).

        Each fragment takes full minibatches of its own samples, all fragments in the same calls; what does not fill a
        minibatch waits for the next update. So the work grows with the samples, not with the fragments they fall on.
        """
        losses = []
        samples = self._pending.take()
        if samples is not None:
            ids = samples.fragment_ids
            held = np.isin(ids, self.memory.ids)  # a fragment may have been evicted since
            trusted = np.flatnonzero(held & ~self._suspicious(samples))
            rows = trusted[fills_minibatches(ids[trusted], self.batch_size)]
            for _ in range(self.epochs if len(rows) else 0):
                shuffled = rows[torch.randperm(len(rows), generator=self._generator).numpy()]
                for chosen in minibatches(shuffled, ids[shuffled], self.batch_size):
                    prepared, fragment_ids = self._joined(select(samples.prepared, chosen), ids[chosen])
                    self._ensure_loaded(fragment_ids)
                    losses.append(self.bank.train(fragment_ids, prepared)[: len(chosen)].mean())
                    self.module.learn_shared(prepared)
            if self.replay is not None and len(rows):
                self.replay.add(select(samples.prepared, rows), ids[rows])
            held[rows] = False
            if held.any():
                self._pending.add(samples.select(held))
        self.samples_since_update, self._last_update = 0, self.samples_seen
        self._store_unused()
        return float(torch.stack(losses).mean()) if losses else None

    def module_state(self, fragment_id: int) -> ModuleState:
        """Return the state of a fragment's module, wherever it is.

        :raises KeyError: if there is no such fragment
        """
        return self.bank.state(fragment_id) if fragment_id in self.bank else self.memory[fragment_id]

    def reward_again(self, transitions: Transitions, fragment_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the intrinsic rewards of B old transitions by the modules and norms as they are now, float64[B].

        Nothing is learnt from them. Fragments that had to be loaded are unloaded by the next ``update``.

        :param fragment_ids: int64[B], the fragment of each; all of them in the memory
        """
        self._ensure_loaded(fragment_ids)
        surprisal = _to_numpy(self.bank.surprisal(fragment_ids, self.module.prepare(transitions)))
        return self.reward_norm.scaled(surprisal, fragment_ids)

    def require_replayable_bonus(self) -> None:
        """Check that ``reward_again`` can do what ``step`` did.

        :raises ValueError: if the module's reward hangs on more than one transition
        """
        if type(self.module).bonus is not CuriosityModule.bonus:
            raise ValueError(
                f"refresh: true needs a module that is rewarded with its surprisal alone; {type(self.module).__name__} "
                "is not. Set refresh: false"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, as a tree of tensors, numbers, strings and lists."""
        return {
            "loaded": {fragment_id: self.bank.state(fragment_id) for fragment_id in self.bank.fragment_ids},
            "module": dict(self.module.state_dict()),
            "controller": self.controller.state_dict(),
            "reward_norm": self.reward_norm.state_dict(),
            "samples_seen": self.samples_seen,
            "samples_since_update": self.samples_since_update,
            "generator": self._generator.get_state(),
            "pending": self._pending.state_dict(),
            "last_update": self._last_update,
            "forgetting": self.forgetting.state_dict(),
            "replay": None if self.replay is None else self.replay.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned.

        :param strict: accepted for the sake of torch's convention; a partial state is never loaded
        """
        self.module.load_state_dict(state["module"])
        for fragment_id in self.bank.fragment_ids:
            self.bank.unload(fragment_id)
        self.controller.load_state_dict(state["controller"])
        for fragment_id, own in state["loaded"].items():
            self.bank.load(fragment_id, own)
        self.reward_norm.load_state_dict(state["reward_norm"])
        self.samples_seen = int(state["samples_seen"])
        self.samples_since_update = int(state["samples_since_update"])
        self._generator.set_state(state["generator"].cpu())
        # Maybe another number of environments than was saved.
        self._pending.load_state_dict(state["pending"], len(self.controller.active))
        self._last_update = int(state["last_update"])
        self.forgetting.load_state_dict(state["forgetting"])
        if self.replay is not None and state["replay"] is not None:
            self.replay.load_state_dict(state["replay"])

    def _open(self, parent: int | None) -> ModuleState:
        fresh = self.bank.initial_state()
        if parent is None or self.new_module == "fresh":
            return fresh
        return fresh | {"parameters": self.module_state(parent)["parameters"]}

    def _count(self, samples: int) -> None:
        self.samples_seen += samples
        self.samples_since_update += samples

    def _evaluate(self, fragment_ids: npt.NDArray[np.int64], prepared: Prepared) -> Prepared:
        self._ensure_loaded(fragment_ids)
        return self.bank.evaluate(fragment_ids, prepared)

    def _bonus(self, outputs: Prepared, prepared: Prepared, starts: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        first = torch.from_numpy(starts).to(outputs["surprisal"].device)
        return _to_numpy(self.module.bonus(outputs, prepared, first))

    def _look_elsewhere(
        self, fragment_ids: npt.NDArray[np.int64], envs: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Evaluate what ``envs`` see now under other fragments than their active ones; return the surprisal there."""
        rows = torch.from_numpy(envs)
        outputs = self._evaluate(fragment_ids, select(self._prepared, envs))
        for name, tensor in outputs.items():
            if name not in self._elsewhere:
                self._elsewhere[name] = tensor.new_zeros((len(self._confirmed), *tensor.shape[1:]))
            self._elsewhere[name][rows] = tensor
        return _to_numpy(outputs["surprisal"])

    def _predicts_better(
        self, envs: npt.NDArray[np.int64], fragment_ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        self._confirmed[envs] = fragment_ids
        # A module that is a copy of the other predicts the same, but for rounding.
        return self._look_elsewhere(fragment_ids, envs) < _CLEARLY * self._surprisal[envs]

    def _forget(self, fragment_id: int) -> None:
        if fragment_id in self.bank:
            self.bank.unload(fragment_id)
        self.reward_norm.forget(fragment_id)

    def _ensure_loaded(self, fragment_ids: npt.NDArray[np.int64]) -> None:
        for fragment_id in self.bank.missing(fragment_ids):
            self.bank.load(fragment_id, self.memory.lend(fragment_id))

    def _store_unused(self) -> None:
        in_use = set(self.controller.active.tolist())
        idle = self.memory.by_last_use(set(self.bank.fragment_ids) - in_use)
        for fragment_id in idle[: max(0, len(in_use) + len(idle) - self.keep_loaded)]:
            keep = self.memory.__setitem__ if self.bank.has_learnt(fragment_id) else self.memory.take_back
            keep(fragment_id, self.bank.unload(fragment_id))

    def _joined(
        self, prepared: Prepared, fragment_ids: npt.NDArray[np.int64]
    ) -> tuple[Prepared, npt.NDArray[np.int64]]:
        """Join a minibatch by replayed samples, if there are any."""
        replayed = None if self.replay is None else self.replay.draw(fragment_ids)
        if replayed is None:
            return prepared, fragment_ids
        both = {name: torch.cat([tensor, replayed[0][name]]) for name, tensor in prepared.items()}
        return both, np.concatenate([fragment_ids, replayed[1]])

    def _remember(self, prepared: Prepared, fragment_ids: npt.NDArray[np.int64]) -> None:
        """Keep a random ``train_fraction`` of the samples for the next update."""
        n_envs = len(fragment_ids)
        samples = Samples(prepared, fragment_ids.copy(), np.arange(n_envs), np.full(n_envs, self.samples_seen))
        if self.train_fraction < 1.0:
            samples = samples.select((torch.rand(n_envs, generator=self._generator) < self.train_fraction).numpy())
        self._pending.add(samples)

    def _excursion(self) -> npt.NDArray[np.int64]:
        """Return for how many steps what each environment saw has been under suspicion, int64[E]."""
        criterion = self.controller.criterion
        excursion = np.zeros(len(self.controller.active), np.int64)
        if criterion is not None and criterion.excursion is not None:
            found = criterion.excursion[: len(excursion)]
            excursion[: len(found)] = found
        return excursion

    def _suspicious(self, samples: Samples) -> npt.NDArray[np.bool_]:
        """Mark the samples of excursions that still go on, bool[B]; none has to wait for more than one update."""
        excursion = self._excursion()
        begin = self.samples_seen - excursion * len(excursion)
        return (samples.times > begin[samples.envs]) & (samples.times > self._last_update)


def _to_numpy(tensor: torch.Tensor) -> npt.NDArray[np.float64]:
    return tensor.cpu().numpy().astype(np.float64)
