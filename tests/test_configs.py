import json
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
    assert "minute" in comment or "second" in comment or "hour" in comment, "say how long it takes"
    assert shipped_configs()[name]
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
    quickstart, ppo, rnd = (load_config(name) for name in ("quickstart", "ppo_baseline", "rnd_baseline"))
    assert quickstart.far is not None
    assert ppo.far is None
    assert rnd.far is not None
    assert rnd.far.criterion is None
    for baseline in (ppo, rnd):
        assert baseline.model_dump(exclude={"far", "name"}) == quickstart.model_dump(exclude={"far", "name"})
    assert rnd.far.module == quickstart.far.module
