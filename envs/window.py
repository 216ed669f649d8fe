"""A window on the screen."""

import os
from typing import Any

from farl.maps.geometry import ByteArray


class Window:
    """A window on the screen that shows one picture after the other.

    :param title: the window's
    :param fps: pictures per second
    """

    def __init__(self, title: str, fps: int) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame

        pygame.display.init()
        self._pygame: Any = pygame
        self._title, self._fps = title, fps
        self._clock = pygame.time.Clock()
        self._surface: Any = None

    def show(self, picture: ByteArray) -> None:
        """Show a picture, uint8[H, W, 3], and wait for its time to pass."""
        pygame = self._pygame
        size = (picture.shape[1], picture.shape[0])
        if self._surface is None or self._surface.get_size() != size:
            self._surface = pygame.display.set_mode(size)
            pygame.display.set_caption(self._title)
        pygame.surfarray.blit_array(self._surface, picture.swapaxes(0, 1))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
