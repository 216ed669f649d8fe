"""The settings of ``FAR(Algorithm)(..., far=...)``, as typed and validated as the YAML that may hold them."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from farl.curiosity.recognition_settings import GraphConfig, RecognitionConfig
from farl.curiosity.registry import AnyModuleConfig
from farl.curiosity.settings import RNDConfig
from farl.errors import ConfigError
from farl.fragmentation.config import CriterionConfig, QuantileConfig, ZScoreConfig
from farl.settings import StrictModel
from farl.validation import validation_problems


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
    """Folder for the rest, 12 bytes a parameter. Removed when the run ends; checkpoints hold all of it."""

    @model_validator(mode="after")
    def _host_with_disk(self) -> "MemoryConfig":
        if (self.host is None) != (self.disk is None):
            raise ValueError("host and disk belong together: how many modules in host memory, and where the rest goes")
        return self

    def why_too_small(self, n_envs: int) -> str | None:
        """Say why so many environments cannot share the memory, or None: each may be in a fragment of its own."""
        if self.capacity > n_envs:
            return None
        return f"must be more than the {n_envs} environments, found {self.capacity}; set it to {n_envs + 1} or more"


def _with_name(value: Any, default: str) -> Any:
    """Complete a mapping without a name, and read a name alone as the mapping that has only that."""
    if isinstance(value, dict):
        return {"name": default, **value}
    return {"name": value} if isinstance(value, str) else value


def _is_episodic(module: Any) -> bool:
    return isinstance(module, RecognitionConfig) and module.scope == "episode" and module.pays != "count"


def _default_criterion(settings: dict[str, Any]) -> ZScoreConfig | None:
    module = settings.get("module")  # missing if it was refused
    ends = module is None or (module.why_not_fragmentable() is None and not module.has_regions)
    return ZScoreConfig() if ends else None


_DEFAULT_MODULE = RecognitionConfig(graph=GraphConfig())
_OF_LEARNT_ERRORS = ("criterion", "recall", "join_within", "new_module", "replay", "refresh", "epochs", "learning_rate")
"""Settings that mean RND where no module is named: recognition learns nothing, and its fragments need no criterion."""
_OF_THE_OWN_CRITIC = ("gamma", "episodic", "critic_hidden", "critic_learning_rate")


class FARConfig(StrictModel):
    """Fragmentation and recall over curiosity modules. ``FARConfig()`` is the default, ``far={}``."""

    module: AnyModuleConfig = _DEFAULT_MODULE
    """The kind of curiosity. If none is named: recognition, with the graph of places leading the policy where an
    on-policy algorithm has discrete actions; or rnd, if a setting is given that only learnt errors have, such as
    criterion or recall."""
    criterion: CriterionConfig | None = Field(default_factory=_default_criterion)
    """When a fragment ends (a zscore criterion, if not named otherwise); null never ends one, which is curiosity
    without fragmentation, and the default of modules that cannot be fragmented or whose fragments are regions."""
    recall: RecallConfig | None = RecallConfig()
    """When a stored fragment is taken up again; null never."""
    join_within: int = Field(0, ge=0)
    """Steps after an environment opened a fragment in which others that would open one from the same fragment join it:
    many environments that pass one border open one fragment. 0: each opens its own."""
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
    episodic: bool = Field(default_factory=lambda settings: _is_episodic(settings.get("module")))
    """Whether the intrinsic return ends with the episode (own critic only; with a shared one it does). Left out: where
    recognition pays for first visits in an episode."""
    refresh: bool = False
    """Whether replayed intrinsic rewards are computed anew by the modules as they are then, instead of those of long
    ago (off-policy only; modules whose reward does not depend on the rest of the episode)."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """Adam's learning rate for the curiosity modules (1e-4 for Atari)."""
    train_fraction: float = Field(1.0, gt=0.0, le=1.0)
    """Share of the samples that modules are trained on (0.25 for RND with 128 environments)."""
    epochs: int = Field(1, ge=1)
    """Passes over the samples in one update of the modules."""
    batch_size: int = Field(64, ge=1)
    """Samples of one fragment in one gradient step; off-policy, also the samples between two updates."""
    replay: int | None = Field(None, ge=1)
    """Samples that are kept, at random, of the whole run; every minibatch is joined by as many of them as it holds.
    Null trains on new samples alone."""
    warmup: int = Field(1000, ge=1)
    """Samples from which the observation norm is learnt before the first intrinsic reward."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Hidden layers of the own critic, behind a features extractor of its own (on-policy only)."""
    critic_learning_rate: float = Field(3e-4, gt=0.0)
    """Adam's learning rate for the own critic (on-policy only)."""

    @model_validator(mode="before")
    @classmethod
    def _module_that_is_meant(cls, settings: Any) -> Any:
        if isinstance(settings, Mapping) and "module" not in settings and any(n in settings for n in _OF_LEARNT_ERRORS):
            return {**settings, "module": RNDConfig()}
        return settings

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
        usual = {"episodic": _is_episodic(self.module)}
        usual |= {name: type(self).model_fields[name].default for name in _OF_THE_OWN_CRITIC if name not in usual}
        without_effect = [name for name in _OF_THE_OWN_CRITIC if getattr(self, name) != usual[name]]
        if self.critic == "shared" and without_effect:
            raise ValueError(
                f"{', '.join(without_effect)}: of no effect with critic: shared, which is the policy's own"
            )
        return self

    def without_default_graph(self) -> "FARConfig":
        """Return the same without advice, unless it was asked for."""
        if "module" in self.model_fields_set:
            return self
        return self.model_copy(update={"module": RecognitionConfig()})

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


def changed(saved: dict[str, Any] | None, given: FARConfig | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the settings of a saved model with those that are given in place of its own.

    :param saved: all settings that the model was saved with; None if it had no curiosity
    :param given: what is to change, section by section; None goes on without curiosity
    :raises ConfigError: naming every setting that is wrong, or a module of another kind than that which is saved
    """
    if given is None:
        return None
    if saved is None or not isinstance(given, FARConfig | Mapping):
        config = FARConfig.parse(given)
    else:
        more = given.model_dump(mode="json", exclude_unset=True) if isinstance(given, FARConfig) else given
        kept = dict(saved)
        if more.get("critic") == "shared":
            for name in _OF_THE_OWN_CRITIC:
                kept.pop(name)
        config = FARConfig.parse(_overridden(kept, more))
    assert config is not None
    if saved is not None and config.module.name != saved["module"]["name"]:
        raise ConfigError(
            f"far.module.name: the saved model has the module {saved['module']['name']}, which cannot go on as "
            f"{config.module.name}. Leave the module out, or load with far=None and save model.plain() to begin anew"
        )
    return config.model_dump(mode="json")


def _overridden(saved: Any, given: Any) -> Any:
    """Return saved settings with given ones in their place; a section with another name is replaced as a whole."""
    if isinstance(given, str) and isinstance(saved, Mapping) and "name" in saved:
        given = {"name": given}
    if not (isinstance(saved, Mapping) and isinstance(given, Mapping)):
        return given
    if "name" in given and given["name"] != saved.get("name"):
        return dict(given)
    return {**saved, **{name: _overridden(saved.get(name), value) for name, value in given.items()}}
