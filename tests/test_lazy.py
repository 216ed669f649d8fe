"""What others import is left out until it is used, and works as ever when it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def told(code: str) -> list[object]:
    """What a new process prints, as JSON, in its last line."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_minigrid_does_without_networkx_until_it_needs_it() -> None:
    code = """
import json, sys
import farl, minigrid
from minigrid.envs.wfc import wfcenv
before = "networkx" in sys.modules
mine = wfcenv.nx.Graph
import networkx
print(json.dumps([before, mine is networkx.Graph, wfcenv.nx.grid_2d_graph(2, 2).number_of_edges()]))
"""
    assert told(code) == [False, True, 4]


def test_stable_baselines3_does_without_the_old_gym_until_it_needs_it() -> None:
    pytest.importorskip("gym")
    code = """
import json, sys
import farl
from stable_baselines3.common.vec_env import patch_gym
before = "gym" in sys.modules
try:
    patch_gym._patch_env("no environment")
except ValueError:
    pass
import gym
print(json.dumps([before, patch_gym.gym_installed, patch_gym.gym.Env is gym.Env]))
"""
    assert told(code) == [False, True, True]


def test_who_has_the_package_already_keeps_it() -> None:
    code = """
import json, sys
import networkx, farl, minigrid
from minigrid.envs.wfc import wfcenv
print(json.dumps([wfcenv.nx is networkx, sys.modules["networkx"] is networkx]))
"""
    assert told(code) == [True, True]


def test_a_module_that_uses_the_package_at_once_gets_it(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("weight = 3\n")
    (tmp_path / "eager.py").write_text("import heavy\nfound = heavy.weight\n")
    code = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
from farl.lazy import spare
spare("heavy", "eager")
spare("missing", "eager")
import eager, heavy
print(json.dumps([eager.found, eager.heavy.weight, heavy.weight]))
"""
    assert told(code) == [3, 3, 3]
