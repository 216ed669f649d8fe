"""The 16 ProcGen games: what there is, and which settings they take."""

import importlib
from typing import Any

import numpy as np
from gymnasium import spaces

from farl.errors import ConfigError, did_you_mean

EXPLORATION = ("caveflyer", "climber", "coinrun", "heist", "jumper", "leaper", "maze", "ninja")
MEMORY = ("caveflyer", "dodgeball", "heist", "jumper", "maze", "miner")
EXTREME = ("chaser", "dodgeball", "leaper", "starpilot")

TIMEOUTS = {
    **dict.fromkeys(("caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot", "heist", "jumper"), 1_000),
    **dict.fromkeys(("miner", "ninja", "starpilot"), 1_000),
    **dict.fromkeys(("leaper", "maze"), 500),
    **dict.fromkeys(("bossfight", "plunder"), 4_000),
    "bigfish": 6_000,
}
"""Game -> steps after which an episode is cut off."""

GAMES = tuple(sorted(TIMEOUTS))
MODES = {"easy": GAMES, "hard": GAMES, "extreme": EXTREME, "memory": MEMORY, "exploration": EXPLORATION}
"""Distribution mode -> the games that have it."""

N_ACTIONS = 15
LEVELS = 2**31 - 1
"""Number of levels: their seeds are int32."""


def game_spaces(
    game: str,
    distribution_mode: str = "hard",
    num_levels: int = 0,
    start_level: int = 0,
    num_threads: int | None = None,
) -> tuple[spaces.Box, spaces.Discrete]:
    """Check the settings of a ``ProcgenVecEnv``, and return its spaces of observations and actions.

    :raises ConfigError: for an unknown game or mode, levels that do not exist, or a package that is missing
    """
    mode = distribution_mode
    # The library ends the whole process over some of these.
    if game not in GAMES:
        raise ConfigError(f"unknown ProcGen game {game!r}{did_you_mean(game, GAMES, limit=16)}")
    if mode not in MODES:
        raise ConfigError(f"unknown distribution_mode {mode!r}{did_you_mean(mode, MODES)}")
    if game not in MODES[mode]:
        raise ConfigError(f"{game} has no distribution_mode {mode!r}; these have: {', '.join(MODES[mode])}")
    numbers = {"num_levels": num_levels, "start_level": start_level, "num_threads": num_threads or 0}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ConfigError(f"{name} must be a whole number, found {value!r}")
    if num_threads is not None and num_threads < 1:
        raise ConfigError("num_threads must be at least 1")
    if num_levels < 0 or start_level < 0 or start_level + num_levels > LEVELS or start_level >= LEVELS:
        raise ConfigError(
            f"levels {start_level} to {start_level + num_levels - 1} do not exist: start_level and num_levels must be "
            f"at least 0, and together at most {LEVELS}"
        )
    if mode == "exploration" and (num_levels or start_level):
        raise ConfigError(
            "distribution_mode 'exploration' is one level of its own: leave num_levels and start_level out"
        )
    import_procgen()
    return spaces.Box(0, 255, (3, 64, 64), np.uint8), spaces.Discrete(N_ACTIONS)


def import_procgen() -> Any:
    """Return the library.

    :raises ConfigError: if it, or a library of the system, is missing
    """
    try:
        return importlib.import_module("procgen")
    except OSError as error:  # the dynamic linker's word
        missing = str(error).partition(":")[0]
        raise ConfigError(
            f"procgen needs the system's library {missing}; on Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        ) from None
    except ImportError:
        raise ConfigError(
            "'procgen' is not installed: pip install 'farl[procgen]' and pip install --no-deps procgen-mirror gym3 gym"
        ) from None
