"""From settings to the live curiosity."""

import logging

import torch

from farl.curiosity import ActionSpec, FARCuriosity
from farl.curiosity.bank import ModuleState
from farl.curiosity.replay import Reservoir
from farl.errors import ConfigError
from farl.fragmentation import KeyRecall, NoRecall, PlaceRecall, Recall
from farl.fragmentation.config import QuantileConfig
from farl.memory import LongTermMemory, Tiers
from farl.sb3.config import FARConfig

_LOG = logging.getLogger(__name__)
_OF_TRAINING = ("new_module", "learning_rate", "train_fraction", "epochs", "replay")


def build_curiosity(
    config: FARConfig,
    shape: tuple[int, ...],
    actions: ActionSpec,
    n_envs: int,
    device: torch.device | str,
    seed: int,
) -> FARCuriosity:
    """Build what a config describes.

    :param shape: one observation's, as ``ObservationAdapter`` gives it
    :param actions: the form of one action, as ``action_spec`` gives it
    :param n_envs: number of environments
    :param seed: draws random weights, random criteria, and the choice of training samples
    :raises ConfigError: if the memory is too small for the number of environments
    :raises ValueError: if the config does not fit the observations
    """
    if (problem := config.memory.why_too_small(n_envs)) is not None:
        raise ConfigError(f"far.memory.capacity: {problem}")
    module = config.module.build(shape, actions, seed).to(device)
    if config.criterion is None:
        module.stay_whole()
    limits = config.memory
    tiers = Tiers[ModuleState](limits.host, limits.disk)
    memory = LongTermMemory[ModuleState](limits.capacity, limits.keys_per_fragment, tiers)
    recall: Recall = NoRecall()
    # Without fragmentation there is nothing to recall, and comparing keys would only cost time.
    if config.recall is not None and config.criterion is not None:
        kind = PlaceRecall if config.recall.keys == "places" else KeyRecall
        threshold = config.recall.threshold
        recall = kind(memory, threshold.build() if isinstance(threshold, QuantileConfig) else threshold)
    confirm = config.recall is not None and config.recall.confirm
    if config.criterion is None and config.module.has_regions:
        confirm = False  # a place is in one region, whatever modules predict
        recall = module.recall(memory)
    curiosity = FARCuriosity(
        module,
        memory,
        None if config.criterion is None else config.criterion.build(seed),
        recall,
        n_envs,
        confirm_recall=confirm,
        join_within=config.join_within,
        new_module=config.new_module,
        learning_rate=config.learning_rate,
        gamma=config.gamma,
        warmup=config.warmup,
        train_fraction=config.train_fraction,
        epochs=config.epochs,
        batch_size=config.batch_size,
        keep_loaded=limits.device,
        replay=None if config.replay is None else Reservoir(config.replay, seed),
        seed=seed,
    )
    changed = [name for name in _OF_TRAINING if getattr(config, name) != FARConfig.model_fields[name].default]
    if changed and not curiosity.learns:
        _LOG.warning("far: %s: of no effect, for module %s is not trained", ", ".join(changed), config.module.name)
    return curiosity
