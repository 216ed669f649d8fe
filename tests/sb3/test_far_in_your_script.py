"""The page "FAR in your own SB3 script": every snippet runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import DQN, PPO

from farl import FAR
from tests.sb3.toy import FAR_SMALL, make_toy

PAGE = Path(__file__).parents[2] / "docs" / "far_in_your_script.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs_as_it_stands(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, str(PAGE), "exec"), {"__name__": "__main__"})


WITHOUT_FARL = """
import importlib.abc, sys
class NoFarl(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "farl":
            raise ModuleNotFoundError("No module named 'farl'")
sys.meta_path.insert(0, NoFarl())
from stable_baselines3 import DQN, PPO
for algorithm in (PPO, DQN):
    model = algorithm.load(algorithm.__name__, device="cpu")
    print(model.predict(model.observation_space.sample())[0])
    assert not any(name.split(".")[0] == "farl" for name in sys.modules)
"""


def test_a_plain_export_loads_where_farl_cannot_be_imported(tmp_path):
    ppo = FAR(PPO)("MlpPolicy", make_toy(), far=FAR_SMALL, n_steps=16, batch_size=16, device="cpu")
    dqn = FAR(DQN)(
        "MlpPolicy", make_toy(), far=FAR_SMALL | {"refresh": True}, learning_starts=8, buffer_size=100, device="cpu"
    )
    ppo.learn(64).plain().save(tmp_path / "PPO")
    dqn.learn(64).plain().save(tmp_path / "DQN")
    result = subprocess.run([sys.executable, "-c", WITHOUT_FARL], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
