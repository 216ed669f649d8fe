"""Pictures of a world."""

import numpy as np

from farl.envs.map_world.worlds import MapWorlds
from farl.maps.geometry import STEP_COLS, STEP_ROWS, ByteArray

PIXELS = 4
"""Pixels a side of a cell."""

_AGENT = (220, 30, 40)


def draw_world(worlds: MapWorlds, env: int) -> ByteArray:
    """Draw one world, uint8[4 H, 4 W, 3]: unseen cells dark, seen ones dimmed, those in view bright, the agent red."""
    seen, in_view = worlds.seen(env), worlds.in_view(env)
    brightness = np.where(in_view, 1.0, np.where(seen, 0.75, 0.2))[..., None]
    picture: ByteArray = (worlds.picture(env) * brightness).astype(np.uint8)
    picture = picture.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    row, col, heading = worlds.pose[env]
    top, left = row * PIXELS, col * PIXELS
    picture[top : top + PIXELS, left : left + PIXELS] = _AGENT
    # The nose: half a cell of the same colour on the side it faces.
    nose_top = top + PIXELS // 2 * STEP_ROWS[heading]
    nose_left = left + PIXELS // 2 * STEP_COLS[heading]
    picture[nose_top + 1 : nose_top + PIXELS - 1, nose_left + 1 : nose_left + PIXELS - 1] = _AGENT
    return picture
