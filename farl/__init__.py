"""FARL: Fragmentation-And-Recall Learning on Stable-Baselines3.

``from farl import FAR`` turns any Stable-Baselines3 algorithm into one with fragmented curiosity:
``FAR(PPO)("MlpPolicy", env, far={})``.
"""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from farl.lazy import exports

__version__ = "0.1.0"
__all__ = ["FAR", "ExplorationCallback", "FARConfig", "FARVecEnv", "Fast", "__version__", "load_run"]

# In a source checkout agents/, envs/ and configs/ lie beside this package, not inside it. This lets
# ``python -m farl`` and the tests find them there even when FARL was installed without --editable.
_CHECKOUT = Path(__file__).parent.parent
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "agents").is_dir():
    __path__.append(str(_CHECKOUT))

# The extra procgen brings the old gym, which Stable-Baselines3 imports where it finds it: its notice of retirement
# would stand above the output of every command.
with suppress(ImportError):
    from gym_notices import notices

    notices.notices.clear()

if TYPE_CHECKING:
    from farl.experiment.finished import load_run
    from farl.sb3 import FAR, FARConfig, FARVecEnv, Fast
    from farl.sb3.exploration import ExplorationCallback


__getattr__ = exports(
    __name__,
    {
        **dict.fromkeys(("FAR", "FARConfig", "FARVecEnv", "Fast"), "farl.sb3"),
        "ExplorationCallback": "farl.sb3.exploration",
        "load_run": "farl.experiment.finished",
    },
)
