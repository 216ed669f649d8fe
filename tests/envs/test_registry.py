import subprocess
import sys

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

import farl.envs
from farl.envs.registry import FAMILIES, MINIGRID, ROOM_CHAINS, EnvSpec, register


@pytest.mark.parametrize("spec", [*MINIGRID, *ROOM_CHAINS], ids=lambda spec: spec.id)
@pytest.mark.filterwarnings("ignore:.*not have a render mode.*", "ignore:.*was not initialized with.*render_mode.*")
def test_every_registered_configuration_passes_gymnasiums_checker(spec: EnvSpec) -> None:
    check_env(gym.make(spec.id).unwrapped, skip_render_check=True)


def test_every_id_is_listed_once_with_one_line_and_is_known_to_gymnasium() -> None:
    listed = farl.envs.list_envs()
    assert len(listed) == sum(len(family) for family in FAMILIES)
    assert all(name.startswith("farl/") and name in gym.registry for name in listed)
    assert all(line and "\n" not in line for line in listed.values())


def test_registering_again_changes_nothing_and_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    before = dict(gym.registry)
    register(MINIGRID)
    assert dict(gym.registry) == before
    assert not recwarn.list


def test_import_works_and_lists_environments_without_their_packages() -> None:
    code = "import sys; sys.modules['minigrid'] = None; import farl.envs; assert farl.envs.list_envs()"
    subprocess.run([sys.executable, "-c", code], check=True)
