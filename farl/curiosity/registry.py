"""The curiosity modules by the name that a config gives them. A new method is one file and one line here."""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from farl.curiosity.recognition_settings import RecognitionConfig
from farl.curiosity.settings import (
    DisagreementConfig,
    E3BConfig,
    EpisodicKNNConfig,
    ICMConfig,
    Mode,
    ModuleConfig,
    NovelDConfig,
    PseudoCountConfig,
    RE3Config,
    RIDEConfig,
    RNDConfig,
)

if TYPE_CHECKING:
    from farl.curiosity.combination import Combination
    from farl.curiosity.module import ActionSpec

_SINGLE: dict[str, type[ModuleConfig]] = {
    "rnd": RNDConfig,
    "recognition": RecognitionConfig,
    "icm": ICMConfig,
    "disagreement": DisagreementConfig,
    "noveld": NovelDConfig,
    "ride": RIDEConfig,
    "e3b": E3BConfig,
    "episodic_knn": EpisodicKNNConfig,
    "pseudo_count": PseudoCountConfig,
    "re3": RE3Config,
}

if TYPE_CHECKING:
    SingleModuleConfig = ModuleConfig
else:  # the registry decides what a config can name
    SingleModuleConfig = Annotated[Union[tuple(_SINGLE.values())], Field(discriminator="name")]  # noqa: UP007


class CombinationConfig(ModuleConfig):
    """A lifelong and an episodic bonus as one; with its defaults, Never Give Up's (Badia et al., 2020)."""

    name: Literal["combination"] = "combination"
    lifelong: SingleModuleConfig = RNDConfig()
    """The bonus that fades over the whole training; its fragments are the combination's."""
    episodic: SingleModuleConfig = EpisodicKNNConfig()
    """The bonus that begins anew in every episode; one for all fragments."""
    mode: Mode = "modulated"
    """product: lifelong x episodic. modulated: episodic x how far lifelong lies above its mean, from 1 to limit.
    sum: both over their standard deviations, by weight."""
    weight: float = Field(0.5, ge=0.0, le=1.0)
    """Of the lifelong bonus in the sum; the episodic one has the rest."""
    limit: float = Field(5.0, ge=1.0)
    """Largest factor of the mode modulated."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Of the episodic module's network (Adam)."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "Combination":
        """Make both modules and their combination."""
        from farl.curiosity.combination import Combination

        lifelong, episodic = (part.build(shape, actions, seed) for part in (self.lifelong, self.episodic))
        return Combination(lifelong, episodic, self.mode, self.weight, self.limit, self.learning_rate)

    def why_not_fragmentable(self) -> str | None:
        """Say why not where the lifelong module cannot be."""
        reason = self.lifelong.why_not_fragmentable()
        return None if reason is None else f"its lifelong part, {self.lifelong.name}, cannot be: {reason}"


MODULES: dict[str, type[ModuleConfig]] = {**_SINGLE, "combination": CombinationConfig}
"""Name -> settings, which build the module."""

if TYPE_CHECKING:
    AnyModuleConfig = ModuleConfig
else:
    AnyModuleConfig = Annotated[Union[tuple(MODULES.values())], Field(discriminator="name")]  # noqa: UP007
