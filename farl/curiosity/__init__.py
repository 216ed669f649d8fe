"""FARCuriosity: curiosity modules, many of them at once, under fragmentation and recall."""

from typing import TYPE_CHECKING

from farl.lazy import exports

if TYPE_CHECKING:
    from farl.curiosity.bank import ModuleBank
    from farl.curiosity.combination import Combination
    from farl.curiosity.disagreement import Disagreement
    from farl.curiosity.e3b import E3B
    from farl.curiosity.episodic_knn import EpisodicKNN
    from farl.curiosity.far_curiosity import CuriosityStep, FARCuriosity, Seen
    from farl.curiosity.icm import ICM
    from farl.curiosity.module import ActionSpec, CuriosityModule, Transitions
    from farl.curiosity.noveld import NovelD
    from farl.curiosity.pseudo_count import PseudoCount
    from farl.curiosity.re3 import RE3
    from farl.curiosity.registry import MODULES
    from farl.curiosity.ride import RIDE
    from farl.curiosity.rnd import RND
    from farl.curiosity.settings import ModuleConfig

__all__ = [
    "E3B",
    "ICM",
    "MODULES",
    "RE3",
    "RIDE",
    "RND",
    "ActionSpec",
    "Combination",
    "CuriosityModule",
    "CuriosityStep",
    "Disagreement",
    "EpisodicKNN",
    "FARCuriosity",
    "ModuleBank",
    "ModuleConfig",
    "NovelD",
    "PseudoCount",
    "Seen",
    "Transitions",
]

__getattr__ = exports(
    __name__,
    {
        "ModuleBank": "farl.curiosity.bank",
        "Combination": "farl.curiosity.combination",
        "Disagreement": "farl.curiosity.disagreement",
        "E3B": "farl.curiosity.e3b",
        "EpisodicKNN": "farl.curiosity.episodic_knn",
        **dict.fromkeys(("CuriosityStep", "FARCuriosity", "Seen"), "farl.curiosity.far_curiosity"),
        "ICM": "farl.curiosity.icm",
        **dict.fromkeys(("ActionSpec", "CuriosityModule", "Transitions"), "farl.curiosity.module"),
        "NovelD": "farl.curiosity.noveld",
        "PseudoCount": "farl.curiosity.pseudo_count",
        "RE3": "farl.curiosity.re3",
        "MODULES": "farl.curiosity.registry",
        "RIDE": "farl.curiosity.ride",
        "RND": "farl.curiosity.rnd",
        "ModuleConfig": "farl.curiosity.settings",
    },
)
