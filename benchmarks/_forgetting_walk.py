"""The scripted walk of the forgetting study: from room to room, a random walk in each, and back."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from farl.envs.room_chain import RoomChain
from farl.envs.room_chain.layout import AHEAD, LEFT, RIGHT

IntArray = npt.NDArray[np.int64]


class Stride(NamedTuple):
    """One step of all walkers.

    :ivar before: int64[W], poses before
    :ivar actions: int64[W]
    :ivar after: int64[W], poses after
    """

    before: IntArray
    actions: IntArray
    after: IntArray


class Walkers:
    """W random walkers that stay in one room until they are sent to the next.

    :param world: rooms in a row
    :param n: number of walkers W
    :param seed: starts their steps
    """

    def __init__(self, world: RoomChain, n: int, seed: int) -> None:
        self.world = world
        self.poses = np.full(n, world.start)
        self._rng = np.random.default_rng(seed)

    def roam(self, room: int, steps: int) -> Iterator[Stride]:
        """Walk at random inside a room: half of the steps ahead, half turns; turns where the way leads out."""
        for _ in range(steps):
            yield self._stride(self._random_actions(room))

    def move(self, room: int) -> Iterator[Stride]:
        """Go to the middle of a room on a shortest way; those who are there walk at random until all are."""
        middle = np.flatnonzero((self.world.positions == self.world.positions[self._middle(room)]).all(axis=1))
        distance = _distances(self.world.following, middle)
        arrived = np.zeros(len(self.poses), bool)
        while not arrived.all():
            towards = distance[self.world.following[self.poses]].argmin(axis=1)
            yield self._stride(np.where(arrived, self._random_actions(room), towards))
            arrived |= distance[self.poses] == 0

    def _random_actions(self, room: int) -> IntArray:
        actions = self._rng.choice([LEFT, RIGHT, AHEAD], len(self.poses), p=[0.25, 0.25, 0.5])
        leaves = self.world.rooms[self.world.following[self.poses, actions]] != room
        return np.where(leaves, self._rng.choice([LEFT, RIGHT], len(self.poses)), actions)

    def _middle(self, room: int) -> int:
        return self.world.pose_at(*divmod(room, self.world.cols), direction=0)

    def _stride(self, actions: IntArray) -> Stride:
        before, self.poses = self.poses, self.world.following[self.poses, actions]
        return Stride(before, actions, self.poses)


def _distances(following: IntArray, targets: IntArray) -> IntArray:
    """Number of steps from each pose to the nearest target, int64[P]."""
    distance = np.full(len(following), len(following))
    distance[targets] = 0
    while True:
        shorter = np.minimum(distance, distance[following].min(axis=1) + 1)
        if (shorter == distance).all():
            return distance
        distance = shorter
