"""FARCuriosity: curiosity modules, many of them at once, under fragmentation and recall."""

from farl.curiosity.bank import ModuleBank
from farl.curiosity.combination import Combination
from farl.curiosity.disagreement import Disagreement
from farl.curiosity.e3b import E3B
from farl.curiosity.episodic_knn import EpisodicKNN
from farl.curiosity.far_curiosity import CuriosityStep, FARCuriosity, Seen
from farl.curiosity.icm import ICM
from farl.curiosity.module import ActionSpec, CuriosityModule, ModuleConfig, Transitions
from farl.curiosity.noveld import NovelD
from farl.curiosity.pseudo_count import PseudoCount
from farl.curiosity.re3 import RE3
from farl.curiosity.registry import MODULES
from farl.curiosity.ride import RIDE
from farl.curiosity.rnd import RND

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
