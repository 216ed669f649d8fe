"""FARCuriosity: fragmentation and recall over curiosity modules, independent of any RL library."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from farl.curiosity.bank import ModuleBank, ModuleState
from farl.curiosity.block import Block
from farl.curiosity.forgetting import ForgettingMeter
from farl.curiosity.fragment_modules import FragmentModules
from farl.curiosity.module import CuriosityModule, Prepared, Transitions
from farl.curiosity.normalisation import RewardNorm
from farl.curiosity.replay import Reservoir
from farl.curiosity.training import ModuleTrainer
from farl.fragmentation import Events, FragmentationAndRecall, Sight
from farl.fragmentation.criteria import Criterion
from farl.fragmentation.recall import Recall
from farl.memory import LongTermMemory
from farl.memory.footprint import footprint

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_AT_ONCE = 1024  # samples that are evaluated together, if as many are known


class Seen(NamedTuple):
    """One step of E environments.

    :ivar transitions: E of them
    :ivar starts: bool[E], True where this is the first transition of an episode
    :ivar position: [E, k], where the environments are, kept with the graph's edges; None where it is not known
    """

    transitions: Transitions
    starts: BoolArray
    position: npt.NDArray[Any] | None = None


class CuriosityStep(NamedTuple):
    """What one step of E environments gave.

    :ivar surprisal: float64[E], raw prediction error under the fragment that is active after the step
    :ivar intrinsic_reward: float64[E], the module's bonus divided by the fragment's reward norm; 0 during the warm-up
    :ivar events: fragments before and after
    :ivar sight: what was routed by: surprisal under the fragment active before the step, keys, position, starts
    """

    surprisal: FloatArray
    intrinsic_reward: FloatArray
    events: Events
    sight: Sight


class FARCuriosity:
    """Intrinsic rewards from one curiosity module per fragment, recalled where the agent has been before.

    Hwang, Hong, Chen, Boopathy, Agrawal, Fiete, "Neuro-inspired fragmentation and recall to overcome catastrophic
    forgetting in curiosity" (arXiv 2310.17537). One step, from top to bottom (``_advance``): the active modules
    predict; their surprisal is part of a ``Sight``; the router proposes who is back in a stored fragment; the modules
    of these fragments judge; the router commits; reward and training sample go to the fragment in which each
    environment ends up. Modules learn in ``update``; those no longer in use then return to long-term memory.

    During the first ``warmup`` samples the observation norm adapts, nothing is rewarded and nothing is fragmented.

    :param module: the kind of curiosity; what it remembers of each environment is saved and restored with it
    :param memory: long-term memory of module states, empty
    :param criterion: ends a fragment; None never does (one module, as without FAR)
    :param recall: recognises stored fragments
    :param n_envs: number of environments E
    :param confirm_recall: recall a fragment only where its module predicts what is seen better than the active one
        does. Around a fracture point both are recognised in turn; without this, an agent that lingers there is thrown
        to and fro
    :param join_within: steps for which other environments join a new fragment instead of opening their own; 0 never
    :param new_module: a new fragment starts as a ``"copy"`` of the one it follows, so that what that one knew does not
        become novel again while its own memory stays as it is; or ``"fresh"``, as published
    :param learning_rate: Adam's, for the predictors
    :param gamma: discount of the intrinsic return, for the reward norm
    :param warmup: number of samples before the first reward
    :param train_fraction: share of the samples that is trained on, in (0, 1]
    :param epochs: passes over the samples in ``update``
    :param batch_size: samples of one fragment in one gradient step
    :param keep_loaded: modules that stay loaded after their use, the most recently used, so that coming back to them
        is cheap; those in use always are
    :param replay: joins every minibatch by as many samples from long ago, of the same fragments; None trains on what
        is new alone
    :param seed: draws the choice and order of training samples
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
        learning_rate: float = 1e-3,
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
        self.modules = FragmentModules(ModuleBank(module, learning_rate), memory, new_module, keep_loaded)
        self.router = FragmentationAndRecall(criterion, memory, recall, n_envs, join_within=join_within)
        self.modules.open(sorted(set(self.router.active.tolist())), [None])
        self.trainer = ModuleTrainer(self.modules, train_fraction, epochs, batch_size, replay, seed)
        self.reward_norm = RewardNorm(n_envs, gamma)
        self.learns = self.modules.bank.learns or type(module).learn_shared is not CuriosityModule.learn_shared
        """Whether modules are trained on what is seen; recognition compares only."""
        self.forgetting = ForgettingMeter(seed=seed)
        """What is forgotten, as far as the module has features."""
        self.confirm_recall = confirm_recall
        self.warmup = warmup
        self.samples_seen = 0
        """Number of transitions so far, the warm-up included."""
        self.last: CuriosityStep | None = None
        """What the latest step gave."""

    @property
    def fragments(self) -> int:
        """Number of fragments opened so far, the first included."""
        return self.router.fractures + 1

    @property
    def recalls(self) -> int:
        """Number of recalls so far."""
        return self.router.recalls

    @property
    def memory_bytes(self) -> int:
        """Size of all that the curiosity holds on the device and in host memory, in bytes; see ``memory_parts``."""
        return sum(self.memory_parts.values())

    @property
    def memory_parts(self) -> dict[str, int]:
        """What the curiosity holds on the device and in host memory, in bytes.

        - ``modules``: those of all fragments, with Adam's moments; on the device with the room for more
        - ``working``: copies and gradients of the modules that the latest update trained together
        - ``index``: keys and graph of the long-term memory
        - ``samples``: those that wait to be trained on, and the replay's
        - ``shared``: what all fragments share: target network, norms, statistics, places
        """
        return {
            "modules": self.modules.memory_bytes,
            "working": self.trainer.working_bytes,
            "index": self.memory.index_bytes,
            "samples": footprint(self.trainer, apart_from=[self.modules]),
            "shared": footprint(
                self.module, self.router, self.reward_norm, self.forgetting, apart_from=[self.memory, self.modules]
            ),
        }

    @property
    def samples_since_update(self) -> int:
        """Number of transitions since the modules were last trained."""
        return self.samples_seen - self.trainer.last_update

    def step(
        self, transitions: Transitions, starts: BoolArray, position: npt.NDArray[Any] | None = None
    ) -> CuriosityStep:
        """Take in one transition per environment and return the intrinsic rewards.

        :param transitions: E transitions
        :param starts: bool[E], True where this is the first transition of an episode
        :param position: [E, k], where the environments are, kept with the graph's edges
        """
        return self.steps([Seen(transitions, starts, position)])[0]

    def steps(self, seen: Sequence[Seen]) -> list[CuriosityStep]:
        """Take in several steps, as so many calls of ``step`` would, but for rounding, and several times faster.

        For those who know what comes next before they need the rewards, as on-policy algorithms do.
        """
        done: list[CuriosityStep] = []
        n_envs = self.router.n_envs
        at_once = max(1, _AT_ONCE // n_envs)
        while len(done) < len(seen):
            if self.samples_seen < self.warmup:
                done.append(self._warm_up(seen[len(done)]))
                continue
            together = seen[len(done) : len(done) + at_once]
            block = Block(self.modules, self.module.prepare(_all_transitions(together)), n_envs)
            done += [self._advance(block, number, each) for number, each in enumerate(together)]
        self.last = done[-1]
        return done

    def update(self) -> float | None:
        """Train the modules on what was seen, and return the mean loss (None if no fragment had a minibatch)."""
        suspicious_since = self.samples_seen - self.router.suspicion() * self.router.n_envs
        loss = self.trainer.update(self.module, suspicious_since, self.samples_seen)
        opened = self.router.reorganise()
        self._make([new for new, _ in opened], [parent for _, parent in opened])
        self.modules.put_away(in_use=set(self.router.active.tolist()))
        if not self.module.one_norm:
            self.reward_norm.keep_only(self.memory.ids)
        return loss

    def reward_again(self, transitions: Transitions, fragment_ids: IntArray) -> FloatArray:
        """Return the intrinsic rewards of B old transitions by the modules and norms as they are now, float64[B].

        Nothing is learnt from them. Fragments that had to be loaded are unloaded by the next ``update``.

        :param fragment_ids: int64[B], the fragment of each; all of them in the memory
        """
        outputs = self.modules.evaluate(fragment_ids, self.module.prepare(transitions))
        return self.reward_norm.scaled(_to_numpy(outputs["surprisal"]), self._norms(fragment_ids))

    def require_replayable_bonus(self) -> None:
        """Check that ``reward_again`` can do what ``step`` did.

        :raises ValueError: if the module's reward depends on more than one transition
        """
        if type(self.module).bonus is not CuriosityModule.bonus:
            raise ValueError(
                f"refresh: true needs a module that is rewarded with its surprisal alone; {type(self.module).__name__} "
                "is not. Set refresh: false"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, as a tree of tensors, numbers, strings and lists."""
        return {
            "module": dict(self.module.state_dict()),
            "router": self.router.state_dict(),
            "loaded": self.modules.state_dict(),
            "trainer": self.trainer.state_dict(),
            "reward_norm": self.reward_norm.state_dict(),
            "forgetting": self.forgetting.state_dict(),
            "samples_seen": self.samples_seen,
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Restore what ``state_dict`` returned, maybe with another number of environments.

        :param strict: accepted for the sake of torch's convention; a partial state is never loaded
        """
        self.module.load_state_dict(state["module"])
        self.router.load_state_dict(state["router"])
        self.modules.load_state_dict(state["loaded"])
        self.trainer.load_state_dict(state["trainer"], self.router.n_envs)
        self.reward_norm.load_state_dict(state["reward_norm"])
        self.forgetting.load_state_dict(state["forgetting"])
        self.samples_seen = int(state["samples_seen"])

    def _warm_up(self, seen: Seen) -> CuriosityStep:
        """Take in a step without reward or fragmentation."""
        active = self.router.active.copy()
        self.samples_seen += len(active)
        self.module.warm_up(seen.transitions)
        prepared = self.module.prepare(seen.transitions)
        outputs = self.modules.evaluate(active, prepared)
        # The rewards are withheld, but their norm already learns how large they are.
        self.reward_norm(self._bonus(outputs, prepared, seen.starts), self._norms(active))
        sight, stay = _sight(outputs, prepared, seen, None), np.zeros(len(active), bool)
        return CuriosityStep(sight.surprisal, np.zeros(len(active)), Events(active, active, stay, stay), sight)

    def _advance(self, block: Block, number: int, seen: Seen) -> CuriosityStep:
        """Take in a step of a block."""
        self.samples_seen += self.router.n_envs
        prepared, outputs = block.prepared(number), block.outputs(number, self.router.active)
        sight = _sight(outputs, prepared, seen, self.module.locate(prepared, seen.starts))
        suspicion = self.router.suspicion()

        proposal = self.router.propose(sight)
        judged = None
        if self.confirm_recall and len(proposal.envs):
            judged = _to_numpy(block.under(number, proposal.envs, proposal.fragment_ids)["surprisal"])
        events = self.router.commit(proposal, judged)

        (moved,) = (events.active != events.previous).nonzero()
        if len(moved):
            self._open(events)
            self._reassign_suspicious(moved, events.active, suspicion)
            outputs = {name: tensor.clone() for name, tensor in outputs.items()}
            _put(outputs, moved, block.under(number, moved, events.active[moved]))
            block.moved(number, moved)
        surprisal = _to_numpy(outputs["surprisal"])
        reward = self.reward_norm(self._bonus(outputs, prepared, seen.starts), self._norms(events.active))
        if sight.keys is not None:
            self.forgetting.observe(sight.keys, surprisal, reward)
        if self.learns:
            self.trainer.add(prepared, events.active, self.samples_seen)
        return CuriosityStep(surprisal, reward, events, sight)

    def _open(self, events: Events) -> None:
        """Make modules and norms of the fragments that were opened."""
        opened = np.flatnonzero(events.fragmented)
        new, old = events.active[opened].tolist(), events.previous[opened].tolist()
        self._make(new, old)

    def _make(self, fragment_ids: list[int], parents: list[int]) -> None:
        self.modules.open(fragment_ids, parents)
        for fragment_id, parent in zip(fragment_ids, parents, strict=True):
            if not self.module.one_norm:
                self.reward_norm.open(fragment_id, parent)

    def _norms(self, fragment_ids: IntArray) -> IntArray:
        """Return the norm of each fragment."""
        return np.zeros_like(fragment_ids) if self.module.one_norm else fragment_ids

    def _reassign_suspicious(self, moved: IntArray, active: IntArray, suspicion: IntArray) -> None:
        """Let the samples of an excursion that ended in another fragment belong to that one."""
        for env in moved[suspicion[moved] > 0]:
            since = self.samples_seen - (int(suspicion[env]) + 1) * len(active)
            self.trainer.reassign(int(env), int(active[env]), since)

    def _bonus(self, outputs: Prepared, prepared: Prepared, starts: BoolArray) -> FloatArray:
        first = torch.from_numpy(starts).to(outputs["surprisal"].device)
        return _to_numpy(self.module.bonus(outputs, prepared, first))


def _sight(outputs: Prepared, prepared: Prepared, seen: Seen, places: IntArray | None) -> Sight:
    keys = prepared["features"].flatten(1).cpu().numpy() if "features" in prepared else None
    return Sight(_to_numpy(outputs["surprisal"]), keys, seen.position, starts=seen.starts, places=places)


def _all_transitions(block: Sequence[Seen]) -> Transitions:
    """Return the transitions of T steps, [T * E, ...], step by step."""
    if len(block) == 1:
        return block[0].transitions
    return Transitions(*(torch.cat(parts) for parts in zip(*(seen.transitions for seen in block), strict=True)))


def _put(outputs: Prepared, envs: IntArray, rows: Prepared) -> None:
    """Write rows, [n, ...], in the place of those of some environments, int64[n]."""
    into = torch.from_numpy(envs)
    for name, tensor in outputs.items():
        tensor[into] = rows[name]


def _to_numpy(tensor: torch.Tensor) -> FloatArray:
    return tensor.cpu().numpy().astype(np.float64)
