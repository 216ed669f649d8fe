"""What environments of one world share, in which an episode's return is the share of it that was seen."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, SupportsFloat, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from farl.envs.window import Window
from farl.maps.geometry import ByteArray, IntArray

Action = TypeVar("Action")
Each = TypeVar("Each")


class Worlds(Protocol):
    """A batch of worlds, of which ``OneWorldEnv`` holds one."""

    n_countable: IntArray
    """int64[E], what can be seen."""

    @property
    def coverage(self) -> npt.NDArray[np.float64]:
        """float64[E], share of it that was seen."""

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""


class OneWorldEnv(gym.Env[Any, Action]):
    """Explore one world: what is seen for the first time is rewarded, and the episode ends once enough was seen.

    :param worlds: one world
    :param until_covered: share of the world at which an episode terminates; None: it never does
    :param max_steps: steps after which it is truncated
    :param world_changes: whether an episode can be in another world than the one before
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"], "render_fps": 20}  # noqa: RUF012
    title: ClassVar[str]
    """Of the window."""

    def __init__(
        self, worlds: Worlds, until_covered: float | None, max_steps: int, render_mode: str | None, world_changes: bool
    ) -> None:
        self._worlds, self._enough = worlds, np.inf if until_covered is None else until_covered
        self.max_steps, self.render_mode, self.world_changes = max_steps, render_mode, world_changes
        self._elapsed = 0
        self._window: Window | None = None

    @abstractmethod
    def draw(self) -> ByteArray:
        """Draw the world, uint8[H, W, 3]."""

    @abstractmethod
    def _begin(self, options: Mapping[str, Any]) -> None:
        """Begin an episode, drawn from ``np_random``."""

    @abstractmethod
    def _advance(self, action: Action) -> IntArray:
        """Take a step; return how much was seen for the first time, int64[1]."""

    @abstractmethod
    def _observation(self) -> Any:
        """What is seen."""

    @abstractmethod
    def _info(self) -> dict[str, Any]:
        """What is told beside it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in a new world, or in the next of the given ones."""
        super().reset(seed=seed)
        self._begin(options or {})
        self._elapsed = 0
        self._show()
        return self._observation(), self._info()

    def step(self, action: Action) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step; what actions are, the class says.

        :raises ValueError: if it is no action
        """
        new = self._advance(action)
        self._elapsed += 1
        self._show()
        return (
            self._observation(),
            float(new[0] / self._worlds.n_countable[0]),
            bool(self._worlds.coverage[0] >= self._enough),
            self._elapsed >= self.max_steps,
            self._info(),
        )

    def render(self) -> ByteArray | None:
        """Return the world as a picture, uint8[H, W, 3]."""
        return self.draw() if self.render_mode == "rgb_array" else None

    def get_state(self) -> dict[str, Any]:
        """Return all that decides what happens next."""
        return {"worlds": self._worlds.get_state(), "elapsed": self._elapsed, "rng": copy.deepcopy(self.np_random)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``get_state`` returned."""
        self._worlds.set_state(state["worlds"])
        self._elapsed, self.np_random = state["elapsed"], copy.deepcopy(state["rng"])

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window = self._window or Window(self.title, self.metadata["render_fps"])
            self._window.show(self.draw())


class InTurn(Generic[Each]):
    """World ``first`` of ``stride`` takes the given ones first, first + stride, ..., round and round."""

    def __init__(self, given: Sequence[Each], first: int, stride: int) -> None:
        self.given, self.next, self.stride = given, first, stride

    def __call__(self, rng: np.random.Generator) -> Each:
        """Return the next one."""
        chosen = self.given[self.next % len(self.given)]
        self.next += self.stride
        return chosen

    def __len__(self) -> int:
        return len(self.given)
