"""A film of an exploration: what a robot believed, from its first steps to its last."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from farl.agents.robot_map import RobotMap
from farl.exploration.colors import in_turn
from farl.slam.merging import WALL, owners

ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

LONGEST = 96
"""Most frames of a film: beyond it every second one goes, and half as many are taken from then on."""
_FIRST_EVERY = 100  # steps between two frames at first
_LARGEST, _CAPTION = 480, 22  # pixels: of a frame's longer side, and of the line below it
_MILLISECONDS, _LAST = 110, 3_000  # that a frame is shown, and the last one
_UNKNOWN, _WALL, _ROBOT = (237, 235, 230), (58, 62, 70), (209, 73, 27)


class Frame(NamedTuple):
    """A map at one step.

    :ivar cells: int16[H, W] as compressed bytes: the fragment that knows each free cell, -1 for none, ``WALL``
    :ivar shape: H and W
    :ivar corner: row and column of the first cell, from the zero of the first fragment
    :ivar pose: x and y in cells from there, and the heading
    :ivar active: the current fragment
    :ivar step: when
    """

    cells: bytes
    shape: tuple[int, int]
    corner: tuple[int, int]
    pose: tuple[float, float, float]
    active: int
    step: int

    def labels(self) -> npt.NDArray[np.int16]:
        """int16[H, W], the cells."""
        return np.frombuffer(zlib.decompress(self.cells), np.int16).reshape(self.shape)


class Film:
    """Frames of the first robot's map, evenly spread over the steps so far, however many those are."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.every = _FIRST_EVERY
        """Steps from one frame to the next."""

    def look(self, robot: RobotMap, step: int) -> None:
        """Take a frame, if it is time for one."""
        if step % self.every:
            return
        cell = robot.rules.resolution
        labels, corner = owners(robot.fragments(0), robot.graph, cell, robot.fragment)
        x, y, heading = robot.world_pose
        packed = zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)
        pose = (float(x / cell), float(y / cell), float(heading))
        height, width = labels.shape
        self.frames.append(Frame(packed, (height, width), (int(corner[0]), int(corner[1])), pose, robot.fragment, step))
        if len(self.frames) > LONGEST:
            self.frames, self.every = self.frames[::2], 2 * self.every

    def draw(self) -> list[ByteArray]:
        """Draw all frames, uint8[H, W, 3] each: fragments in colour, the current one in full, the robot red."""
        frames = [frame for frame in self.frames if min(frame.shape) > 0]
        if not frames:
            return []
        first = np.min([frame.corner for frame in frames], axis=0)
        last = np.max([np.add(frame.corner, frame.shape) for frame in frames], axis=0)
        return [_draw(frame, first, last - first) for frame in frames]

    def write(self, path: Path) -> Path | None:
        """Write the film as a gif, whole or not at all; None where nothing was filmed."""
        pictures = [Image.fromarray(picture).quantize(64) for picture in self.draw()]
        if not pictures:
            return None
        unfinished = path.with_name(f".{path.stem}.unfinished.gif")
        shown = [_MILLISECONDS] * (len(pictures) - 1) + [_LAST]
        try:
            pictures[0].save(unfinished, save_all=True, append_images=pictures[1:], duration=shown, loop=0)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def state_dict(self) -> dict[str, Any]:
        """Return the frames as tensors and numbers."""
        return {
            "every": self.every,
            "frames": [
                [torch.frombuffer(bytearray(frame.cells), dtype=torch.uint8), *(_plain(value) for value in frame[1:])]
                for frame in self.frames
            ],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "Film":
        """Restore what ``state_dict`` returned."""
        film = cls()
        film.every = int(state["every"])
        for cells, shape, corner, pose, active, step in state["frames"]:
            film.frames.append(
                Frame(cells.cpu().numpy().tobytes(), tuple(shape), tuple(corner), tuple(pose), int(active), int(step))
            )
        return film


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _draw(frame: Frame, first: IntArray, size: IntArray) -> ByteArray:
    labels = np.full(tuple(size), -1, np.int16)
    row, col = np.subtract(frame.corner, first)
    labels[row : row + frame.shape[0], col : col + frame.shape[1]] = frame.labels()
    names, at = np.unique(labels, return_inverse=True)
    strength = np.where(names == frame.active, 0.75, 0.35)[:, None]  # of what is not in active memory, less
    palette = 255 * (1.0 - strength * (1.0 - in_turn(names)))
    palette[names == -1], palette[names == WALL] = _UNKNOWN, _WALL
    scale = max(_LARGEST // int(size.max()), 1)
    picture = palette.astype(np.uint8)[at.reshape(labels.shape)][::-1].repeat(scale, 0).repeat(scale, 1)
    image = Image.new("RGB", (picture.shape[1], picture.shape[0] + _CAPTION), "white")
    image.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(image)
    x, y, heading = frame.pose
    x, y = (x - first[1]) * scale, picture.shape[0] - (y - first[0]) * scale
    radius = max(2.5 * scale, 4.0)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_ROBOT)
    nose = (x + 2.4 * radius * np.cos(heading), y - 2.4 * radius * np.sin(heading))
    draw.line((x, y, *nose), fill=_ROBOT, width=max(scale, 2))
    known, held = int((names >= 0).sum()), float((labels == frame.active).sum() / max((labels >= 0).sum(), 1))
    text = f"step {frame.step:,}: {known} fragment{'s' * (known != 1)}, {held:.0%} active"
    draw.text((6, picture.shape[0] + 4), text, fill="#22272e", font=ImageFont.load_default(12))
    return np.asarray(image)
