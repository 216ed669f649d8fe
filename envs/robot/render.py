"""Pictures of a robot in its building: what was seen, its scan, where it is and where it believes to be."""

import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from farl.envs.map_world.occupancy import OPEN, WALL
from farl.envs.robot.worlds import FloatArray, RobotWorlds, beam_angles
from farl.maps.geometry import ByteArray
from farl.slam.poses import compose

LARGEST = 640
"""Most pixels of a picture's longer side."""

_WALL, _OPEN, _UNMAPPED, _UNSEEN = (40, 44, 52), (250, 250, 248), (190, 190, 190), (206, 206, 200)
_BEAM, _TRUE, _BELIEVED = (72, 136, 206), (220, 30, 40), (20, 150, 70)


class Belief(NamedTuple):
    """What an agent believes, to be drawn.

    :ivar pose: float64[3], where it believes to be, in the plan's frame
    :ivar cells: float64[N, 2], x and y of free cells that it knows, in the plan's frame
    :ivar colors: uint8[N, 3], their colours: one for each fragment
    :ivar size: metres a side of those cells
    """

    pose: FloatArray
    cells: FloatArray
    colors: ByteArray
    size: float


def draw_robot(worlds: RobotWorlds, env: int, belief: Belief | None = None) -> ByteArray:
    """Draw one robot's world, uint8[H, W, 3]: unseen places dim, the scan blue, the true pose red, the believed green.

    :param belief: where its agent believes it to be; None draws where the odometry has it
    """
    building = worlds.building(env)
    cells = building.grid.cells[::-1]
    stride = max(-(-max(cells.shape) // LARGEST), 1)
    cells = cells[::stride, ::stride]
    scale = 1.0 / (building.resolution * stride)  # pixels a metre
    areas = worlds.seen(env).repeat(building.cells_per_area, 0).repeat(building.cells_per_area, 1)
    seen = areas[::stride, ::stride][: cells.shape[0], : cells.shape[1]]
    picture = np.full((*cells.shape, 3), _UNMAPPED, np.uint8)
    picture[cells == OPEN] = _UNSEEN
    picture[(cells == OPEN) & seen] = _OPEN
    if belief is not None and len(belief.cells):
        _paint(picture, belief, scale, cells == OPEN)
    picture[cells == WALL] = _WALL
    image = Image.fromarray(np.ascontiguousarray(picture[::-1]))
    draw = ImageDraw.Draw(image)
    height = image.height

    def point(x: float, y: float) -> tuple[float, float]:
        return x * scale, height - y * scale

    pose, scan = worlds.pose[env], worlds.scan[env].astype(np.float64)
    angles = pose[2] + beam_angles(worlds.settings.lidar_field, int(worlds.settings.beams))
    for angle, length in zip(angles[scan > 0.0], scan[scan > 0.0], strict=True):
        end = point(pose[0] + length * np.cos(angle), pose[1] + length * np.sin(angle))
        draw.line((*point(*pose[:2]), *end), fill=_BEAM if length < worlds.settings.lidar_range else (200, 218, 238))
    guess = compose(worlds.start[env], worlds.odometry[env]) if belief is None else belief.pose
    for where, color in ((guess, _BELIEVED), (pose, _TRUE)):
        _draw_body(draw, point, where, max(worlds.settings.radius, 4.0 / scale), color)
    return np.asarray(image)


def _paint(picture: ByteArray, belief: Belief, scale: float, free: Any) -> None:
    """Tint the cells that an agent knows in the colours of their fragments."""
    reach = math.ceil(1.3 * belief.size * scale)  # turned maps leave holes between cells
    row, col = ((belief.cells[:, 1 - axis] - belief.size / 2) * scale for axis in (0, 1))
    tint = np.zeros_like(picture)
    for down in range(reach):
        for across in range(reach):
            r, c = row.astype(np.int64) + down, col.astype(np.int64) + across
            inside = (r >= 0) & (c >= 0) & (r < picture.shape[0]) & (c < picture.shape[1])
            tint[r[inside], c[inside]] = belief.colors[inside]
    known = tint.any(axis=-1) & free
    picture[known] = (0.55 * picture[known] + 0.45 * tint[known]).astype(np.uint8)


def _draw_body(draw: Any, point: Any, pose: FloatArray, radius: float, color: tuple[int, int, int]) -> None:
    x, y, heading = (float(value) for value in pose)
    left, low = point(x - radius, y - radius)
    right, high = point(x + radius, y + radius)
    draw.ellipse((left, high, right, low), outline=color, width=2)
    nose = point(x + 1.8 * radius * np.cos(heading), y + 1.8 * radius * np.sin(heading))
    draw.line((*point(x, y), *nose), fill=color, width=2)
