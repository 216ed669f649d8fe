"""The settings of the curiosity modules, apart from their code: they are read, and checked, without torch."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from farl.settings import StrictModel

if TYPE_CHECKING:
    from farl.curiosity.disagreement import Disagreement
    from farl.curiosity.e3b import E3B
    from farl.curiosity.episodic_knn import EpisodicKNN
    from farl.curiosity.icm import ICM
    from farl.curiosity.module import ActionSpec, CuriosityModule
    from farl.curiosity.noveld import NovelD
    from farl.curiosity.pseudo_count import PseudoCount
    from farl.curiosity.re3 import RE3
    from farl.curiosity.ride import RIDE
    from farl.curiosity.rnd import RND

Mode = Literal["modulated", "product", "sum"]
"""How a combination makes one bonus of two."""


class ModuleConfig(StrictModel):
    """Settings of a curiosity module. Subclasses narrow ``name`` to a literal."""

    name: str

    @property
    def advice_prior(self) -> float:
        """By how much an advised action counts in the policy's logits to begin with."""
        return 0.0

    @abstractmethod
    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "CuriosityModule":
        """Make the module.

        :param shape: shape of one observation; [channels, height, width] for an image
        :param actions: the form of one action
        :param seed: draws all random weights; the global random state is left alone
        """

    def arguments(self) -> dict[str, Any]:
        """Return all settings but the name, as keyword arguments."""
        return {name: value for name, value in self if name != "name"}

    def n_advised(self, actions: "ActionSpec") -> int:
        """Return the length of the advice that the module gives for each environment, 0 for none."""
        return 0

    @property
    def has_regions(self) -> bool:
        """Whether fragments are the regions of a graph of places that the module keeps, if no criterion ends them."""
        return False

    def why_not_fragmentable(self) -> str | None:
        """Say why one module per fragment makes no sense, or None where it does."""
        return None


class RNDConfig(ModuleConfig):
    """Random network distillation (Burda et al., 2019)."""

    name: Literal["rnd"] = "rnd"
    features: int = Field(64, ge=1)
    """Width of the predicted random features, which are the recall keys too (512 for Atari)."""
    hidden: int = Field(128, ge=1)
    """Width of the predictor's upper layers (512 for Atari)."""
    frame_stack: int = Field(1, ge=1)
    """Frames that an observation stacks along its channels; the newest is used."""
    clip: float = Field(5.0, gt=0.0)
    """Whitened observations are clipped to +- this."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "RND":
        """Make the module."""
        from farl.curiosity.rnd import RND

        return RND(shape, **self.arguments(), seed=seed)


class ICMConfig(ModuleConfig):
    """Prediction error in features that are learnt from the agent's own actions (Pathak et al., 2017)."""

    name: Literal["icm"] = "icm"
    features: int = Field(64, ge=1)
    """Width of the learnt features and of the recall keys (512 for Atari)."""
    hidden: int = Field(128, ge=1)
    """Width of the inverse network and of the forward network's blocks (512 for Atari)."""
    blocks: int = Field(1, ge=0)
    """Residual blocks of the forward network (4 for Atari)."""
    forward_weight: float = Field(0.2, ge=0.0, le=1.0)
    """Weight of the forward loss; the inverse loss, which alone trains the encoder, has the rest."""
    clip: float = Field(5.0, gt=0.0)
    """Whitened observations are clipped to +- this."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "ICM":
        """Make the module."""
        from farl.curiosity.icm import ICM

        return ICM(shape, actions, **self.arguments(), seed=seed)


class DisagreementConfig(ModuleConfig):
    """Variance among several forward models, which noise does not raise for long (Pathak et al., 2019)."""

    name: Literal["disagreement"] = "disagreement"
    models: int = Field(5, ge=2)
    """Number of forward models."""
    features: int = Field(64, ge=1)
    """Width of the predicted random features, which are the recall keys too (512 for Atari)."""
    hidden: int = Field(128, ge=1)
    """Width of the models' hidden layers (512 for Atari)."""
    frame_stack: int = Field(1, ge=1)
    """Frames that an observation stacks along its channels; the newest is used."""
    clip: float = Field(5.0, gt=0.0)
    """Whitened observations are clipped to +- this."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "Disagreement":
        """Make the module."""
        from farl.curiosity.disagreement import Disagreement

        return Disagreement(shape, actions, **self.arguments(), seed=seed)


class NovelDConfig(RNDConfig):
    """The rise in RND's novelty from one observation to the next, once an episode (Zhang et al., 2021)."""

    name: Literal["noveld"] = "noveld"  # type: ignore[assignment]
    alpha: float = Field(0.5, ge=0.0)
    """Share of the novelty left behind that is taken off; 0 rewards novelty itself, at first visits."""
    bits: int | None = Field(None, ge=1, le=62)
    """Length of the codes by which first visits are told, fewer bits lump more together and tolerate more noise; null
    tells all observations apart, as published."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "NovelD":
        """Make the module."""
        from farl.curiosity.noveld import NovelD

        return NovelD(shape, seed=seed, **self.arguments())


class RIDEConfig(ICMConfig):
    """Change in learnt features, less with every visit of the episode (Raileanu and Rocktäschel, 2020)."""

    name: Literal["ride"] = "ride"  # type: ignore[assignment]

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "RIDE":
        """Make the module."""
        from farl.curiosity.ride import RIDE

        return RIDE(shape, actions, seed=seed, **self.arguments())


class InverseEmbeddingConfig(ModuleConfig):
    """Settings of modules over learnt embeddings."""

    features: int = Field(32, ge=1)
    """Width of the embedding."""
    hidden: int = Field(128, ge=1)
    """Width of the inverse network (512 for Atari)."""
    clip: float = Field(5.0, gt=0.0)
    """Whitened observations are clipped to +- this."""

    def why_not_fragmentable(self) -> str:
        """An episodic memory has nothing to forget."""
        return "its memory ends with the episode, and embeddings of different fragments could not be compared in it"


class E3BConfig(InverseEmbeddingConfig):
    """How far an embedding lies outside the ellipse of those seen in the episode (Henaff et al., 2022)."""

    name: Literal["e3b"] = "e3b"
    ridge: float = Field(0.1, gt=0.0)
    """Start of the covariance, as a multiple of the identity; smaller rewards the first observations more."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "E3B":
        """Make the module."""
        from farl.curiosity.e3b import E3B

        return E3B(shape, actions, seed=seed, **self.arguments())


class EpisodicKNNConfig(InverseEmbeddingConfig):
    """How unlike its nearest neighbours of the episode an embedding is: NGU's episodic half (Badia et al., 2020)."""

    name: Literal["episodic_knn"] = "episodic_knn"
    neighbours: int = Field(10, ge=1)
    """Nearest neighbours that count; more make the reward smoother."""
    capacity: int = Field(5000, ge=2)
    """Embeddings of an episode that are remembered, the latest."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "EpisodicKNN":
        """Make the module."""
        from farl.curiosity.episodic_knn import EpisodicKNN

        return EpisodicKNN(shape, actions, seed=seed, **self.arguments())


class PseudoCountConfig(ModuleConfig):
    """One over the root of how often what is seen was seen: in the episode, or ever (Tang et al., 2017)."""

    name: Literal["pseudo_count"] = "pseudo_count"
    scope: Literal["episodic", "lifelong"] = "episodic"
    """episodic: counts begin anew with every episode. lifelong: they never do, and all environments share them."""
    bits: int | None = Field(None, ge=1, le=62)
    """Length of codes that lump together what looks alike, fewer bits lump more; null counts exact observations."""
    frame_stack: int = Field(1, ge=1)
    """Frames that an observation stacks along its channels; the newest is used."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "PseudoCount":
        """Make the module."""
        from farl.curiosity.pseudo_count import PseudoCount

        return PseudoCount(shape, seed=seed, **self.arguments())

    def why_not_fragmentable(self) -> str:
        """Counts do not forget."""
        return "counts predict nothing that could surprise, and forget nothing that a fragment could keep"


class RE3Config(ModuleConfig):
    """Distance to the nearest of the latest samples, in random features (Seo et al., 2021)."""

    name: Literal["re3"] = "re3"
    features: int = Field(64, ge=1)
    """Width of the random features."""
    hidden: int = Field(128, ge=1)
    """Width of the random network for vectors."""
    neighbours: int = Field(3, ge=1)
    """The reward is the distance to the neighbour of this rank; more make it smoother."""
    capacity: int = Field(10_000, ge=2)
    """Latest samples, of all environments, that neighbours are sought among."""
    frame_stack: int = Field(1, ge=1)
    """Frames that an observation stacks along its channels; the newest is used."""
    clip: float = Field(5.0, gt=0.0)
    """Whitened observations are clipped to +- this."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "RE3":
        """Make the module."""
        from farl.curiosity.re3 import RE3

        return RE3(shape, **self.arguments(), seed=seed)

    def why_not_fragmentable(self) -> str:
        """Samples are kept, not learnt."""
        return "it compares with stored samples, learns nothing, and so has nothing to forget"
