"""MiniWorld, three-dimensional rooms seen through a camera (Chevalier-Boisvert et al., NeurIPS 2023; arXiv 2306.13831).

Needs the extra ``miniworld``. Without a display its pictures are drawn off screen, through EGL.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from PIL import Image

from farl.errors import ConfigError

__all__ = ["MiniWorldCells"]

PREFIX = "MiniWorld-"


def register_miniworld() -> None:
    """Register MiniWorld's environments with Gymnasium, which :func:`gymnasium.make` does not do by itself.

    :raises ConfigError: if MiniWorld is not installed, or nothing can be drawn on this machine
    """
    try:
        pyglet = importlib.import_module("pyglet")
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            pyglet.options["headless"] = True
        importlib.import_module("miniworld.envs")
        _read_textures_at_once()
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("pyglet", "miniworld"):
            raise ConfigError("MiniWorld needs an extra: pip install 'farl[miniworld]'") from None
        raise ConfigError(_cannot_draw(error)) from None
    except Exception as error:  # whatever OpenGL and its window system raise
        raise ConfigError(_cannot_draw(error)) from None


@cache
def _read_textures_at_once() -> None:
    """Have Pillow read MiniWorld's textures with four channels, as MiniWorld wants them.

    pyglet makes four channels of three by a regular expression, in half a second for each texture.
    """
    image: Any = importlib.import_module("pyglet.image")

    class Reader(image.codecs.ImageDecoder):  # type: ignore[misc]
        def decode(self, file: Any, filename: str) -> Any:
            with Image.open(file) as picture:
                upwards = picture.convert("RGBA").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            return image.ImageData(*upwards.size, "RGBA", upwards.tobytes())

    image.codecs._codecs._decoder_extensions[".png"].insert(0, Reader())  # pyglet itself adds only last ones


def _cannot_draw(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return (
        f"MiniWorld cannot draw on this machine: {first}; it needs OpenGL, on Linux: "
        "apt install libegl1 libgl1 libglu1-mesa"
    )


class MiniWorldCells(gym.Wrapper[Any, Any, Any, Any]):
    """Tell where the agent is in a MiniWorld, so that exploration can be measured and drawn.

    ``info["position"]`` is the agent's square (x, y) of the floor plan seen from above, on every step and reset.
    ``reachable``, bool[H, W], is which squares have floor.

    :param env: an environment of MiniWorld
    :param cell: side of a square, metres
    :param layout_seed: rooms, things and start are those of this seed in every episode; drawn anew each time if None
    :raises ConfigError: for another environment, or a side that is not positive

    Example (needs the extra ``miniworld``)::

        env = MiniWorldCells(gym.make("MiniWorld-FourRooms-v0"), layout_seed=0)
        obs, info = env.reset()  # uint8[60, 80, 3], {"position": (x, y)}
    """

    def __init__(self, env: gym.Env[Any, Any], cell: float = 1.0, layout_seed: int | None = None) -> None:
        super().__init__(env)
        if not hasattr(env.unwrapped, "wall_segs"):
            raise ConfigError(f"MiniWorldCells takes an environment of MiniWorld, not {type(env.unwrapped).__name__}")
        if not 0 < cell < math.inf:
            raise ConfigError(f"cell must be a positive number of metres, got {cell}")
        self.cell = cell
        self.layout_seed = layout_seed
        self.world_changes = layout_seed is None
        self.reachable = self._floor()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed if self.layout_seed is None else self.layout_seed, options=options)
        self.reachable = self._floor()
        return observation, {**info, "position": self.position}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated, truncated, {**info, "position": self.position}

    @property
    def position(self) -> tuple[int, int]:
        """The agent's square, (x, y)."""
        world: Any = self.unwrapped
        x, _, z = world.agent.pos
        rows, columns = self.reachable.shape
        column, row = int((x - world.min_x) / self.cell), int((z - world.min_z) / self.cell)
        return min(max(column, 0), columns - 1), min(max(row, 0), rows - 1)

    def _floor(self) -> npt.NDArray[np.bool_]:
        """Which squares have a point in a room, of four by four looked at."""
        world: Any = self.unwrapped
        inside = (np.arange(4) + 0.5) / 4
        z, x = (
            least + (np.arange(max(1, math.ceil((most - least) / self.cell)))[:, None] + inside) * self.cell
            for least, most in ((world.min_z, world.max_z), (world.min_x, world.max_x))
        )
        points = np.zeros((*z.shape, *x.shape, 3))
        points[..., 0], points[..., 2] = x, z[:, :, None, None]
        # A point is inside a room if it lies before all of its walls.
        floor = np.zeros(points.shape[:-1], bool)
        for room in world.rooms:
            before = ((points[..., None, :] - room.outline) * room.edge_norms).sum(axis=-1)
            floor |= (before > 0).all(axis=-1)
        return np.asarray(floor.any(axis=(1, 3)))
