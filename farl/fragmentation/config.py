"""The criteria as settings: one vocabulary for curiosity and maps, in Python and in YAML."""

from typing import Annotated, Any, Literal

from pydantic import Field

from farl.fragmentation.criteria import CRITERIA, CUSUM, Criterion, Quantile, Random, Ratio, Uniform, ZScore
from farl.settings import StrictModel, default_of


class QuantileConfig(StrictModel):
    """A threshold calibrated from what was seen, instead of a number."""

    quantile: float = Field(gt=0.0, lt=1.0)
    """Share of the values seen that lie below the threshold: 0.999 lets about one in a thousand exceed it."""
    warmup: int = Field(default_of(Quantile, "warmup"), ge=1)
    """Number of values before the first threshold; until then nothing exceeds it."""
    window: int = Field(default_of(Quantile, "window"), ge=1)
    """Number of recent values that count."""

    def build(self) -> Quantile:
        """Make the threshold."""
        return Quantile(self.quantile, min(self.warmup, self.window), self.window)


class _CriterionConfig(StrictModel):
    """Settings of a criterion: its keyword arguments, with its defaults. Subclasses narrow ``name`` to a literal."""

    name: str

    def build(self, seed: int) -> Criterion:
        """Make the criterion.

        :param seed: starts those that draw
        """
        arguments: dict[str, Any] = {name: value for name, value in self if name != "name"}
        if isinstance(calibrated := arguments.get("threshold"), QuantileConfig):
            arguments["threshold"] = calibrated.build()
        if CRITERIA[self.name] is Random:
            arguments["seed"] = seed
        return CRITERIA[self.name](**arguments)


class ZScoreConfig(_CriterionConfig):
    """Fragment where the surprisal lies more than ``threshold`` standard deviations above the fragment's mean."""

    name: Literal["zscore"] = "zscore"
    threshold: float | QuantileConfig = default_of(ZScore, "threshold")
    """Standard deviations above the mean."""
    min_samples: int = Field(default_of(ZScore, "min_samples"), ge=0)
    """Samples a fragment must have before it can end."""
    alpha: float | None = Field(default_of(ZScore, "alpha"), gt=0.0, le=1.0)
    """Weight of the newest sample in moving statistics, for as a module learns its old, larger errors must fade;
    null for lifetime statistics."""


class RatioConfig(_CriterionConfig):
    """Fragment where the surprisal is more than ``threshold`` times the fragment's mean."""

    name: Literal["ratio"]
    threshold: float | QuantileConfig = default_of(Ratio, "threshold")
    """Multiple of the mean."""
    min_samples: int = Field(default_of(Ratio, "min_samples"), ge=0)
    """Samples a fragment must have before it can end."""
    alpha: float | None = Field(default_of(Ratio, "alpha"), gt=0.0, le=1.0)
    """Weight of the newest sample in the moving mean; null for the lifetime mean."""


class CUSUMConfig(_CriterionConfig):
    """Fragment where the surprisal has changed for good (cumulative sum of its log's z-score): needs no tuning."""

    name: Literal["cusum"]
    threshold: float | QuantileConfig = default_of(CUSUM, "threshold")
    """Of the sum, in standard deviations: higher, and it takes longer to notice, and more to be fooled."""
    drift: float = Field(default_of(CUSUM, "drift"), ge=0.0)
    """Taken off the sum in every step: half of the smallest change of interest, in standard deviations."""
    min_samples: int = Field(default_of(CUSUM, "min_samples"), ge=0)
    """Steps a fragment must have before it can end."""
    alpha: float = Field(default_of(CUSUM, "alpha"), gt=0.0, le=1.0)
    """Weight of the newest step in the moving statistics."""


class RandomConfig(_CriterionConfig):
    """Fragment at random: the control for surprisal."""

    name: Literal["random"]
    probability: float = Field(default_of(Random, "probability"), ge=0.0, le=1.0)
    """Of a fragment's end, per sample."""
    min_samples: int = Field(default_of(Random, "min_samples"), ge=0)
    """Samples a fragment must have before it can end."""


class UniformConfig(_CriterionConfig):
    """Fragment at regular intervals: the other control for surprisal."""

    name: Literal["uniform"]
    every: int = Field(default_of(Uniform, "every"), ge=1)
    """Samples of a fragment between two ends."""


CriterionConfig = Annotated[
    ZScoreConfig | RatioConfig | CUSUMConfig | RandomConfig | UniformConfig, Field(discriminator="name")
]
