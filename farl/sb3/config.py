"""The settings of ``FAR(Algorithm)(..., far=...)``, as typed and validated as the YAML that may hold them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from farl.curiosity.registry import AnyModuleConfig
from farl.curiosity.rnd import RNDConfig
from farl.errors import ConfigError
from farl.fragmentation import CUSUM, Criterion, Quantile, Random, Ratio, Uniform, ZScore
from farl.settings import StrictModel
from farl.validation import validation_problems


class QuantileConfig(StrictModel):
    """A threshold calibrated from what was seen, instead of a number."""

    quantile: float = Field(gt=0.0, lt=1.0)
    """Share of the values seen that lie below the threshold: 0.999 lets about one in a thousand exceed it."""
    warmup: int = Field(1000, ge=1)
    """Number of values before the first threshold; until then nothing exceeds it."""
    window: int = Field(10_000, ge=1)
    """Number of recent values that count."""

    def build(self) -> Quantile:
        """Make the threshold."""
        return Quantile(self.quantile, min(self.warmup, self.window), self.window)


def threshold(value: float | QuantileConfig) -> float | Quantile:
    """Make what a setting describes."""
    return value.build() if isinstance(value, QuantileConfig) else value


class ZScoreConfig(StrictModel):
    """Fragment where the surprisal lies so many standard deviations above the fragment's mean."""

    name: Literal["zscore"] = "zscore"
    threshold: float | QuantileConfig = 5.0
    """Standard deviations above the mean."""
    min_samples: int = Field(200, ge=0)
    """Samples a fragment must have before it can end."""
    alpha: float | None = Field(0.01, gt=0.0, le=1.0)
    """Weight of the newest sample in moving statistics, for as a module learns its old, larger errors must fade;
    null for lifetime statistics."""

    def build(self, seed: int) -> Criterion:
        """Make the criterion."""
        return ZScore(threshold(self.threshold), self.min_samples, self.alpha)


class RatioConfig(StrictModel):
    """Fragment where the surprisal is so many times the fragment's mean."""

    name: Literal["ratio"]
    threshold: float | QuantileConfig = 5.0
    """Multiple of the mean."""
    min_samples: int = Field(200, ge=0)
    """Samples a fragment must have before it can end."""
    alpha: float | None = Field(0.01, gt=0.0, le=1.0)
    """Weight of the newest sample in the moving mean; null for the lifetime mean."""

    def build(self, seed: int) -> Criterion:
        """Make the criterion."""
        return Ratio(threshold(self.threshold), self.min_samples, self.alpha)


class CUSUMConfig(StrictModel):
    """Fragment where the surprisal has changed for good (cumulative sum of its log's z-score): needs no tuning."""

    name: Literal["cusum"]
    threshold: float | QuantileConfig = 5.0
    """Of the sum, in standard deviations: higher, and it takes longer to notice, and more to be fooled."""
    drift: float = Field(0.5, ge=0.0)
    """Taken off the sum in every step: half of the smallest change of interest, in standard deviations."""
    min_samples: int = Field(100, ge=0)
    """Steps a fragment must have before it can end."""
    alpha: float = Field(0.01, gt=0.0, le=1.0)
    """Weight of the newest step in the moving statistics."""

    def build(self, seed: int) -> Criterion:
        """Make the criterion."""
        return CUSUM(threshold(self.threshold), self.drift, self.min_samples, self.alpha)


class RandomConfig(StrictModel):
    """Fragment at random: the control for surprisal."""

    name: Literal["random"]
    probability: float = Field(0.005, ge=0.0, le=1.0)
    """Of a fragment's end, per sample."""
    min_samples: int = Field(1, ge=0)
    """Samples a fragment must have before it can end."""

    def build(self, seed: int) -> Criterion:
        """Make the criterion."""
        return Random(self.probability, self.min_samples, seed)


class UniformConfig(StrictModel):
    """Fragment at regular intervals: the other control for surprisal."""

    name: Literal["uniform"]
    every: int = Field(200, ge=1)
    """Samples of a fragment between two ends."""

    def build(self, seed: int) -> Criterion:
        """Make the criterion."""
        return Uniform(self.every)


CriterionConfig = Annotated[
    ZScoreConfig | RatioConfig | CUSUMConfig | RandomConfig | UniformConfig, Field(discriminator="name")
]


class RecallConfig(StrictModel):
    """Recall the fragment whose stored key resembles what is seen."""

    threshold: float | QuantileConfig = 0.95
    """Least cosine similarity, in [-1, 1], or a quantile of the best similarities seen."""
    confirm: bool = True
    """Recall only where the stored module predicts what is seen better than the active one; false recalls on the key
    alone."""
    keys: Literal["fractures", "places"] = "fractures"
    """fractures: a fragment is recognised at its borders, as published. places: anywhere in it, by all that it has seen
    and nothing stored resembled; give it room for them, as in memory.keys_per_fragment: 256."""


class MemoryConfig(StrictModel):
    """Limits of the long-term memory."""

    capacity: int = Field(800, ge=2)
    """Most fragments held; beyond it the least recently used is evicted. More than the number of environments."""
    keys_per_fragment: int = Field(64, ge=1)
    """Most keys of one fragment; beyond it the oldest go."""
    device: int = Field(8, ge=0)
    """Modules that stay on the device after their use, the most recently used; those in use always are there."""
    host: int | None = Field(None, ge=1)
    """Most modules in host memory; beyond it the least recently used go to disk. Null for no limit. Needs disk."""
    disk: str | None = None
    """Folder for the rest, 4.5 bytes a parameter: parameters are exact, the optimiser's state is not. Removed when
    the run ends; checkpoints hold all of it."""

    @model_validator(mode="after")
    def _host_with_disk(self) -> "MemoryConfig":
        if (self.host is None) != (self.disk is None):
            raise ValueError("host and disk belong together: how many modules in host memory, and where the rest goes")
        return self


def _with_name(value: Any, default: str) -> Any:
    """Complete a mapping without a name, and read a name alone as the mapping that has only that."""
    if isinstance(value, dict):
        return {"name": default, **value}
    return {"name": value} if isinstance(value, str) else value


def _default_criterion(settings: dict[str, Any]) -> ZScoreConfig | None:
    module = settings.get("module")  # missing if it was refused
    return ZScoreConfig() if module is None or module.why_not_fragmentable() is None else None


class FARConfig(StrictModel):
    """Fragmentation and recall over curiosity modules. ``FARConfig()`` is the default, ``far={}``."""

    module: AnyModuleConfig = RNDConfig()
    """The kind of curiosity (rnd, if not named otherwise)."""
    criterion: CriterionConfig | None = Field(default_factory=_default_criterion)
    """When a fragment ends (a zscore criterion, if not named otherwise); null never ends one, which is curiosity
    without fragmentation, and the default of modules that cannot be fragmented."""
    recall: RecallConfig | None = RecallConfig()
    """When a stored fragment is taken up again; null never."""
    join_within: int = Field(0, ge=0)
    """For so many steps after an environment opened a fragment, others that would open one from the same fragment join
    it: many environments that pass one border open one fragment. 0: each opens its own."""
    new_module: Literal["copy", "fresh"] = "copy"
    """A new fragment's module starts as a copy of the one it follows, so that what was known does not become novel
    again; or fresh, as published."""
    memory: MemoryConfig = MemoryConfig()
    """Limits of the long-term memory."""
    intrinsic_coef: float = Field(1.0, ge=0.0)
    """Weight of the intrinsic advantage (on-policy) or reward (off-policy)."""
    extrinsic_coef: float = Field(1.0, ge=0.0)
    """Weight of the extrinsic advantage (on-policy) or reward (off-policy)."""
    critic: Literal["own", "shared"] = "own"
    """The intrinsic return has a critic of its own, with its own discount, and may outlast an episode; or the policy's
    critic learns the sum of both rewards, which is cheaper (on-policy only)."""
    gamma: float = Field(0.99, ge=0.0, lt=1.0)
    """Discount of the intrinsic return (own critic only)."""
    episodic: bool = False
    """Whether the intrinsic return ends with the episode (own critic only; with a shared one it does)."""
    refresh: bool = False
    """Whether replayed intrinsic rewards are computed anew by the modules as they are then, instead of those of long
    ago (off-policy only; modules whose reward does not hang on the rest of the episode)."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Of the curiosity modules (Adam; 1e-4 for Atari)."""
    train_fraction: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the samples that modules are trained on (0.25 for RND with 128 environments)."""
    epochs: int = Field(1, ge=1)
    """Passes over the samples in one update of the modules."""
    batch_size: int = Field(64, ge=1)
    """Samples of one fragment in one gradient step; off-policy, also the samples between two updates."""
    replay: int | None = Field(None, ge=1)
    """Join every minibatch by as many samples out of so many that are kept, at random, of the whole run; null trains on
    new samples alone."""
    warmup: int = Field(1000, ge=1)
    """Samples from which the observation norm is learnt before the first intrinsic reward."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the own critic, behind a features extractor of its own (on-policy only)."""
    critic_learning_rate: float = Field(3e-4, gt=0.0)
    """Of the own critic (Adam; on-policy only)."""

    @field_validator("module", mode="before")
    @classmethod
    def _name_module(cls, module: Any) -> Any:
        return _with_name(module, "rnd")

    @field_validator("criterion", mode="before")
    @classmethod
    def _name_criterion(cls, criterion: Any) -> Any:
        return _with_name(criterion, "zscore")

    @model_validator(mode="after")
    def _fragments_what_can_be(self) -> "FARConfig":
        reason = self.module.why_not_fragmentable()
        if reason is not None and self.criterion is not None:
            raise ValueError(f"module {self.module.name} cannot be fragmented: {reason}; set criterion: null")
        return self

    @model_validator(mode="after")
    def _settings_of_a_critic_that_is_there(self) -> "FARConfig":
        without_effect = [
            name
            for name in ("gamma", "episodic", "critic_hidden", "critic_learning_rate")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.critic == "shared" and without_effect:
            raise ValueError(
                f"{', '.join(without_effect)}: of no effect with critic: shared, which is the policy's own"
            )
        return self

    @classmethod
    def parse(cls, far: "FARConfig | Mapping[str, Any] | None") -> "FARConfig | None":
        """Read what a user gave as ``far``.

        :raises ConfigError: naming every setting that is wrong
        :raises TypeError: if it is neither a mapping, a config, nor None
        """
        if far is None or isinstance(far, FARConfig):
            return far
        if not isinstance(far, Mapping):
            raise TypeError(
                f"far must be a dict, a FARConfig, or None; got {type(far).__name__}. far={{}} is the defaults"
            )
        try:
            return cls.model_validate(dict(far))
        except ValidationError as error:
            problems = validation_problems(error, far, cls)
            raise ConfigError(*(": ".join((".".join(("far", *path)), text)) for path, text in problems)) from None
