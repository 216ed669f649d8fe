"""One run of the forgetting study: a curiosity, taken through the rooms and back."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch

from benchmarks._forgetting_walk import Stride, Walkers
from farl.curiosity import FARCuriosity, Transitions
from farl.envs.room_chain import RoomChain

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Study:
    """Takes a curiosity through the rooms, one after the other, and back; remembers its errors.

    :param curiosity: not warmed up yet, with as many environments as there are walkers
    :param world: rooms in a row
    :param seed: starts the walk
    """

    def __init__(self, curiosity: FARCuriosity, world: RoomChain, seed: int) -> None:
        self.curiosity, self.world = curiosity, world
        self.walkers = Walkers(world, len(curiosity.router.active), seed)
        n_rooms = world.n_rooms
        self.first_sight, self.after_visit, self.on_return = (np.full(n_rooms, np.nan) for _ in range(3))
        self._shares = np.zeros((n_rooms, 1))  # samples of each room in each fragment
        self._begins = True

    def run(self, rollouts: int, rollout: int, return_rollouts: int) -> None:
        """Visit every room in order, for some rollouts each, and learn after each; come back without learning."""
        steps = rollout // len(self.walkers.poses)
        while self.curiosity.samples_seen < self.curiosity.warmup:
            self._take(self.walkers.roam(0, 1), room=0)
        for room in range(self.world.n_rooms):
            if room:
                self._take(self.walkers.move(room), room)
            for number in range(rollouts):
                errors = self._take(self.walkers.roam(room, steps), room)
                if number == 0:
                    self.first_sight[room] = errors.mean()
                self.curiosity.update()
            self.after_visit[room] = errors.mean()
        for room in reversed(range(self.world.n_rooms - 1)):
            self._take(self.walkers.move(room), room)
            self.on_return[room] = self._take(self.walkers.roam(room, return_rollouts * steps), room).mean()

    def metrics(self) -> dict[str, float]:
        """F, N and the absolute error on return over all rooms that were left, and the purity of routing."""
        left = slice(0, self.world.n_rooms - 1)
        first, after, later = self.first_sight[left], self.after_visit[left], self.on_return[left]
        return {
            "F": float(np.exp(np.log(later / after).mean())),
            "N": float(later.mean() / first.mean()),
            "return_error": float(later.mean()),
            "purity": float(self._shares.max(axis=0).sum() / self._shares.sum()),
        }

    def by_room(self) -> dict[str, list[float]]:
        """Errors of each room that was left: at first sight, at the end of the first visit, and on return."""
        errors = {"first_sight": self.first_sight, "after_visit": self.after_visit, "on_return": self.on_return}
        return {name: [round(float(error), 5) for error in values[:-1]] for name, values in errors.items()}

    def _take(self, strides: Iterable[Stride], room: int) -> FloatArray:
        """Show strides to the curiosity and return its errors, float64[T, W]."""
        errors = []
        for stride in strides:
            step = self.curiosity.step(self._transitions(stride), self._starts(), self._rooms(room))
            errors.append(step.surprisal)
            self._count(room, step.events.active)
        return np.array(errors)

    def _transitions(self, stride: Stride) -> Transitions:
        before, after = (torch.from_numpy(self.world.views(poses)) for poses in (stride.before, stride.after))
        return Transitions(before, torch.from_numpy(stride.actions), after)

    def _starts(self) -> npt.NDArray[np.bool_]:
        starts = np.full(len(self.walkers.poses), self._begins)
        self._begins = False
        return starts

    def _rooms(self, room: int) -> IntArray:
        """Return the room of each walker, int64[W, 1]; between rooms, the one it goes to."""
        rooms = self.world.rooms[self.walkers.poses]
        return np.where(rooms < 0, room, rooms).astype(np.int64)[:, None]

    def _count(self, room: int, active: IntArray) -> None:
        inside = self.world.rooms[self.walkers.poses] >= 0
        if active.max() >= self._shares.shape[1]:
            more = int(active.max()) + 1 - self._shares.shape[1]
            self._shares = np.pad(self._shares, ((0, 0), (0, more)))
        np.add.at(self._shares, (self.world.rooms[self.walkers.poses][inside], active[inside]), 1)
