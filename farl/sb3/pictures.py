"""Figures on their way to TensorBoard and to files."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.logger import Image, Logger

if TYPE_CHECKING:  # drawing imports matplotlib, and a run starts without it
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]

_DPI = 130  # of files and in TensorBoard, where it shows them at about half of their size
_NOT_TEXT = ("stdout", "log", "json", "csv")  # logger formats that cannot hold an image
_MOST_TIME = 0.03
"""Share of the wall-clock time that pictures may take, those at the end included."""
_FIRST_SET = 0.5
"""Seconds that a set of pictures is taken to need before the first has been drawn."""


class PictureTimes:
    """When pictures are drawn while a run goes on: now and then, and in a small part of its time.

    :param every: timesteps between two sets; 0 draws none
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.last = 0
        """Timesteps at the last set."""
        self._a_set = _FIRST_SET  # seconds
        self.begin(0)

    def begin(self, timesteps: int) -> None:
        """Begin a run, or go on with one."""
        self.last, self._began, self._spent = timesteps, time.monotonic(), 0.0

    def due(self, timesteps: int) -> bool:
        """Whether it is time for a set; the next one then is due later."""
        will_take = self._spent + 2 * self._a_set  # one set now, and one at the end
        if not self.every or timesteps - self.last < self.every:
            return False
        if will_take > _MOST_TIME * (time.monotonic() - self._began):
            return False
        self.last = timesteps
        return True

    def last_wanted(self, timesteps: int) -> bool:
        """Whether a set is to be drawn at the end of a run; not if it has just been."""
        wanted = bool(self.every) and self.last != timesteps
        self.last = timesteps
        return wanted

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Take the time of a set."""
        began = time.monotonic()
        yield
        self._a_set = time.monotonic() - began
        self._spent += self._a_set


def takes_images(logger: Logger) -> bool:
    """Whether anything that a logger writes to can hold pictures."""
    return any(getattr(output, "takes_images", hasattr(output, "writer")) for output in logger.output_formats)


def log_pictures(logger: Logger, pixels: dict[str, Pixels]) -> None:
    """Log pictures, uint8[H, W, 3] each, by name."""
    for name, picture in pixels.items():
        logger.record(f"exploration/{name}", Image(picture, "HWC"), exclude=_NOT_TEXT)


def rendered(drawn: "dict[str, Figure]") -> dict[str, Pixels]:
    """Draw figures to pixels, uint8[H, W, 3] each."""
    from farl.figures import figure_array

    for figure in drawn.values():
        figure.set_dpi(_DPI)
    return {name: figure_array(figure) for name, figure in drawn.items()}


def write_png(path: Path, picture: Pixels) -> Path:
    """Write a picture, whole or not at all."""
    from PIL import Image as Picture

    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        Picture.fromarray(picture).save(unfinished, optimize=False, compress_level=4)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
