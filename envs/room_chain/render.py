"""Pictures of a chain of rooms."""

import numpy as np
import numpy.typing as npt

from farl.envs.partial_views import FORWARD
from farl.envs.room_chain.layout import GOAL, WALL, RoomChain

PIXELS = 8
"""Pixels a side of a cell."""

_PAINTS = np.array(
    [(130, 130, 130), (220, 60, 60), (60, 170, 75), (70, 100, 230), (150, 70, 190), (230, 200, 60), (60, 190, 200)]
)
_BARE_FLOOR, _GOAL, _AGENT = (25, 25, 25), (240, 240, 240), (255, 255, 255)


def draw_rooms(world: RoomChain, pose: int) -> npt.NDArray[np.uint8]:
    """Draw the world and one agent, uint8[8 H, 8 W, 3]: walls bright, painted floors dim, the agent a white wedge."""
    kind, color = world.codes[..., 0].T, world.codes[..., 1].T
    dim = np.where((color == 0)[..., None], _BARE_FLOOR, _PAINTS[color] * 0.45)
    picture = np.where((kind == WALL)[..., None], _PAINTS[color], dim)
    picture[kind == GOAL] = _GOAL
    picture = picture.astype(np.uint8).repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    x, y = PIXELS * world.positions[pose]
    offset = np.stack(np.meshgrid(np.arange(PIXELS), np.arange(PIXELS)), axis=-1) - (PIXELS - 1) / 2
    along = offset @ FORWARD[world.directions[pose]]
    across = np.abs(offset).sum(axis=-1) - np.abs(along)
    picture[y : y + PIXELS, x : x + PIXELS][(along > -3) & (across < (3 - along) / 2)] = _AGENT
    return picture
