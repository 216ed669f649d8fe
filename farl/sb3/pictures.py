"""Figures on their way to TensorBoard and to files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # drawing imports matplotlib, and a run starts without it
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]

_DPI = 130  # of files and in TensorBoard, where it shows them at about half of their size


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
