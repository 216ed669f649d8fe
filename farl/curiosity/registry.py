"""The curiosity modules by the name that a config gives them. A new method is one file and one line here."""

from farl.curiosity.icm import ICMConfig
from farl.curiosity.module import ModuleConfig
from farl.curiosity.noveld import NovelDConfig
from farl.curiosity.pseudo_count import PseudoCountConfig
from farl.curiosity.rnd import RNDConfig

MODULES: dict[str, type[ModuleConfig]] = {
    "rnd": RNDConfig,
    "icm": ICMConfig,
    "noveld": NovelDConfig,
    "pseudo_count": PseudoCountConfig,
}
"""Name -> settings, which build the module."""
