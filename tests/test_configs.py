import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from farl.cli import main
from farl.experiment.loading import load_config
from farl.experiment.shipped import shipped_configs
from farl.experiment.yaml_source import read_yaml

FOLDER = Path(str(files("farl.configs")))


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_config_is_valid_explains_itself_and_names_its_schema(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schema.json"
    comment = " ".join(line for line in lines[1:] if line.startswith("#"))
    assert comment
    assert re.search(r"(second|minute|hour|day|week)s?\b.* (CPU|GPU)", shipped_configs()[name], re.IGNORECASE), (
        "say how long it takes"
    )
    load_config(name)


def test_committed_schema_is_that_of_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((FOLDER / "schema.json").read_text()), (
        "run: farl schema > configs/schema.json"
    )


def test_schema_knows_every_key_of_the_shipped_configs() -> None:
    schema = json.loads((FOLDER / "schema.json").read_text())
    for name in shipped_configs():
        assert set(read_yaml(FOLDER / f"{name}.yaml").data) <= set(schema["properties"])


def test_baselines_differ_from_the_quickstart_in_far_alone() -> None:
    names = ("quickstart", "ppo_baseline", "rnd_baseline", "far_published")
    quickstart, ppo, rnd, published = map(load_config, names)
    assert quickstart.far is not None
    assert ppo.far is None
    assert rnd.far is not None
    assert published.far is not None
    assert rnd.far.criterion is None
    assert published.far.criterion is not None
    assert rnd.far.module == published.far.module
    for baseline in (ppo, rnd, published):
        assert baseline.model_dump(exclude={"far", "name"}) == quickstart.model_dump(exclude={"far", "name"})


def test_editors_are_told_the_hyperparameters_of_the_algorithm_named() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads((FOLDER / "schema.json").read_text()))
    for name in shipped_configs():
        assert not list(validator.iter_errors(read_yaml(FOLDER / f"{name}.yaml").data)), name
    good = {"total_timesteps": 1, "environment": {"id": "CartPole-v1"}}
    for algorithm, hyperparameters, fits in (
        ("PPO", {"n_steps": 8, "learning_rate": "linear(1e-3)", "policy_kwargs": {"net_arch": [8]}}, True),
        ("PPO", {"buffer_size": 8}, False),
        ("PPO", {"n_steps": "many"}, False),
        ("DQN", {"buffer_size": 8, "train_freq": [1, "step"]}, True),
        ("SAC", {"ent_coef": "auto", "action_noise": "normal(0.1)"}, True),
    ):
        data = good | {"algorithm": {"name": algorithm, "hyperparameters": hyperparameters}}
        assert validator.is_valid(data) == fits, (algorithm, hyperparameters)
