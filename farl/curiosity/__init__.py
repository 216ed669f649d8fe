"""FARCuriosity: curiosity modules, many of them at once, under fragmentation and recall."""

from farl.curiosity.bank import ModuleBank
from farl.curiosity.far_curiosity import CuriosityStep, FARCuriosity
from farl.curiosity.icm import ICM
from farl.curiosity.module import ActionSpec, CuriosityModule, ModuleConfig, Transitions
from farl.curiosity.noveld import NovelD
from farl.curiosity.pseudo_count import PseudoCount
from farl.curiosity.registry import MODULES
from farl.curiosity.rnd import RND

__all__ = [
    "ICM",
    "MODULES",
    "RND",
    "ActionSpec",
    "CuriosityModule",
    "CuriosityStep",
    "FARCuriosity",
    "ModuleBank",
    "ModuleConfig",
    "NovelD",
    "PseudoCount",
    "Transitions",
]
