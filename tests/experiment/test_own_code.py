from pathlib import Path

import pytest

from farl.cli import main
from farl.errors import ConfigError
from farl.experiment.environments import make_vec_env
from farl.experiment.loading import load_config
from farl.experiment.named_environments import find_vec_wrapper

CONFIG = (
    "total_timesteps: 64\ndevice: cpu\nlogging: {tensorboard: false}\nenvironment: {id: 'NAME', n_envs: 2}\n"
    "algorithm: {hyperparameters: {n_steps: 16, batch_size: 16, n_epochs: 1, policy_kwargs: {net_arch: [8]}}}\n"
)
MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Short(CartPoleEnv):
    def __init__(self, length=5, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.length = length

class Half(gym.RewardWrapper):
    def reward(self, reward):
        return reward / 2

class NoEnvironment:
    pass

def make_short(**kwargs):
    return Short(**kwargs)

gym.register('Registered-v0', 'MODULE:Short', max_episode_steps=7)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A folder with a YAML file and a module beside it, while the user stands elsewhere."""
    folder = tmp_path / "project"
    folder.mkdir()
    name = "own_" + "".join(letter for letter in request.node.name if letter.isalnum())[:40]
    (folder / f"{name}.py").write_text(MODULE.replace("MODULE", name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return folder, name


def config(place: tuple[Path, str], reference: str) -> str:
    folder, name = place
    path = folder / "mine.yaml"
    path.write_text(CONFIG.replace("NAME", reference.replace("MODULE", name)))
    return str(path)


@pytest.mark.parametrize("reference", ["MODULE:Short", "MODULE:make_short", "MODULE:Registered-v0"])
def test_environments_beside_the_yaml_file_are_trained(place: tuple[Path, str], reference: str) -> None:
    path = config(place, reference)
    assert main(["train", path, "--out", "run"]) == 0
    assert main(["evaluate", "run", "--episodes", "1"]) == 0  # config.yaml lies elsewhere and still finds it
    assert main(["resume", "run", "--timesteps", "96"]) == 0


def test_arguments_and_wrappers_of_ones_own(place: tuple[Path, str]) -> None:
    path = config(place, "MODULE:Short")
    overrides = ["environment.kwargs={length: 9}", f"environment.wrappers=['{place[1]}:Half']"]
    venv = make_vec_env(load_config(path, overrides).environment, seed=0)
    assert venv.get_attr("unwrapped")[0].length == 9
    venv.reset()
    assert venv.step([venv.action_space.sample()] * 2)[1][0] == 0.5  # type: ignore[arg-type]
    venv.close()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("MODULE:Shrot", "did you mean Short?"),
        ("MODULE:Registred-v0", "did you mean Registered-v0?"),
        ("MODULE:NoEnvironment", "is no gymnasium.Env"),
        ("MODULE:MODULE", "neither a class nor a registered id"),
        ("nowhere_at_all:Env", "put nowhere_at_all.py beside the YAML file"),
        ("broken:Env", "broken.py:2: cannot be imported"),
        ("hungry:Env", "hungry needs the package 'not_installed_at_all'"),
        ("angry:Env", "angry cannot be imported: RuntimeError: not today"),
        ("MODULE:Short:more", "no environment 'Short:more'"),
    ],
)
def test_what_goes_wrong_is_said_by_name(place: tuple[Path, str], reference: str, message: str) -> None:
    folder, _ = place
    (folder / "broken.py").write_text("x = 1\ndef :\n")
    (folder / "hungry.py").write_text("import not_installed_at_all\n")
    (folder / "angry.py").write_text("raise RuntimeError('not today')\n")
    with pytest.raises(ConfigError, match=r".") as refused:
        load_config(config(place, reference))
    assert len(refused.value.problems) == 1
    assert message in refused.value.problems[0]


def test_a_module_with_a_like_name_is_suggested(place: tuple[Path, str]) -> None:
    (place[0] / "mazes.py").write_text("")
    with pytest.raises(ConfigError, match="did you mean mazes"):
        load_config(config(place, "maze:Env"))


def test_wrappers_of_stable_baselines_have_their_short_names(place: tuple[Path, str]) -> None:
    overrides = ["environment.vec_wrappers=[{name: VecFrameStack, kwargs: {n_stack: 3}}, VecCheckNan]"]
    settings = load_config(config(place, "CartPole-v1"), overrides).environment
    venv = make_vec_env(settings, seed=0)
    assert venv.observation_space.shape == (12,)
    assert type(venv).__name__ == "VecCheckNan"
    venv.close()
    assert settings.folder is None
    with pytest.raises(ConfigError, match="did you mean VecFrameStack"):
        find_vec_wrapper(settings.vec_wrappers[0].model_copy(update={"name": "VecFramesStack"}))
    with pytest.raises(ConfigError, match="normalize_observations"):
        find_vec_wrapper(settings.vec_wrappers[0].model_copy(update={"name": "VecNormalize"}))
