"""Settings have the defaults of what they build: none is stated twice with two values."""

import inspect

import pytest

from farl.curiosity import MODULES, ActionSpec, FARCuriosity, ModuleBank
from farl.fragmentation import CRITERIA
from farl.fragmentation.config import CriterionConfig
from farl.sb3.config import FARConfig

CONFIGS = {config.model_fields["name"].annotation.__args__[0]: config for config in CriterionConfig.__origin__.__args__}


def differing(config, function):
    """Names of settings whose default is not that of the parameter of the same name."""
    parameters = inspect.signature(function).parameters
    fields = {name: field.default for name, field in type(config).model_fields.items() if name in parameters}
    return {name: default for name, default in fields.items() if default != parameters[name].default}


def test_every_criterion_can_be_named_in_settings():
    assert set(CONFIGS) == set(CRITERIA)


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria(name):
    config = CONFIGS[name](name=name)
    assert differing(config, CRITERIA[name]) == {}
    assert type(config.build(seed=0)) is CRITERIA[name]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "combination"])
def test_modules(name):
    config = MODULES[name](name=name)
    assert differing(config, type(config.build((6,), ActionSpec(2, discrete=True), seed=0))) == {}


def test_curiosity():
    config = FARConfig()
    assert set(differing(config, FARCuriosity)) <= {"module", "memory", "criterion", "recall", "replay"}
    assert inspect.signature(ModuleBank).parameters["learning_rate"].default == config.learning_rate
