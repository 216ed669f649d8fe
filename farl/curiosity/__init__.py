"""FARCuriosity: curiosity modules, many of them at once, under fragmentation and recall."""

from farl.curiosity.bank import ModuleBank
from farl.curiosity.far_curiosity import CuriosityStep, FARCuriosity
from farl.curiosity.module import CuriosityModule, Transitions
from farl.curiosity.rnd import RND

MODULES: dict[str, type[CuriosityModule]] = {"rnd": RND}
"""The curiosity modules by the name that a config gives them."""

__all__ = ["MODULES", "RND", "CuriosityModule", "CuriosityStep", "FARCuriosity", "ModuleBank", "Transitions"]
