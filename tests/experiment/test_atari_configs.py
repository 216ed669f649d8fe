"""Every shipped Atari configuration trains, with sizes that a CPU does in seconds."""

from pathlib import Path

import pytest

pytest.importorskip("ale_py", reason="Atari needs the extra atari: pip install 'farl[atari]'")

from farl.experiment.loading import load_config
from farl.experiment.recording import record
from farl.experiment.run import resume, train
from farl.experiment.run_directory import RunDirectory
from farl.experiment.shipped import shipped_configs

SMALL = (
    "total_timesteps=32",
    "device=cpu",
    "torch_threads=1",
    "environment.n_envs=2",
    "environment.kwargs.max_num_frames_per_episode=24",
    "algorithm.hyperparameters.n_steps=8",
    "algorithm.hyperparameters.batch_size=8",
    "algorithm.hyperparameters.n_epochs=1",
    "algorithm.hyperparameters.policy_kwargs={net_arch: [8], features_extractor_kwargs: {features_dim: 16}}",
    "far.module.features=8",
    "far.module.hidden=8",
    "far.critic_hidden=[8]",
    "far.warmup=8",
    "far.batch_size=4",
    "far.epochs=1",
    "far.train_fraction=1.0",
)
SMALL_LSTM = (*SMALL, "algorithm.hyperparameters.policy_kwargs.lstm_hidden_size=8")
NAMES = [name for name in shipped_configs() if name.startswith("atari")]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_atari_config_trains(name: str) -> None:
    metrics = train(load_config(name, SMALL if name.endswith("rnd") else SMALL_LSTM))
    assert metrics["total_timesteps"] == 32
    assert metrics["ep_rew_mean"] is not None
    assert metrics["fragments"] >= 1


@pytest.mark.parametrize("module", ["icm", "disagreement", "combination"])
def test_other_modules_see_atari_frames_too(module: str) -> None:
    settings = [setting for setting in SMALL if not setting.startswith("far.module")]
    config = load_config("atari_montezuma_rnd", [*settings, f"far.module={module}", "far.criterion={}"])
    assert train(config)["fragments"] >= 1


def test_a_run_is_resumed_and_recorded_in_colour(tmp_path: Path) -> None:
    config = load_config("atari_jamesbond", [*SMALL_LSTM, "logging.tensorboard=false"])
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    train(config, run.path)
    assert resume(run.path, 64)["total_timesteps"] == 64
    assert record(run, tmp_path / "x.gif", 1, True, 0).frames > 1


def test_presets_are_those_of_the_papers() -> None:
    paper, burda = load_config("atari_jamesbond"), load_config("atari_montezuma_rnd")
    assert (paper.environment.n_envs, burda.environment.n_envs) == (32, 128)
    assert paper.environment.kwargs["repeat_action_probability"] == 0
    assert burda.environment.kwargs["repeat_action_probability"] == 0.25
    assert paper.far is not None
    assert burda.far is not None
    assert (paper.far.episodic, burda.far.episodic) == (True, False)
    assert (burda.far.extrinsic_coef, burda.far.intrinsic_coef) == (2, 1)
    assert burda.far.criterion is None
    for config in (paper, burda):
        hyperparameters = config.algorithm.hyperparameters
        assert config.environment.n_envs * hyperparameters["n_steps"] == 4 * hyperparameters["batch_size"]
        assert config.total_timesteps % (config.environment.n_envs * hyperparameters["n_steps"]) == 0


@pytest.mark.parametrize("name", ["atari_montezuma", "atari_venture", "atari_private_eye"])
def test_the_other_games_differ_from_james_bond_in_nothing_else(name: str) -> None:
    base, other = load_config("atari_jamesbond"), load_config(name)
    assert other.environment.model_dump(exclude={"id"}) == base.environment.model_dump(exclude={"id"})
    assert other.model_dump(exclude={"environment", "name"}) == base.model_dump(exclude={"environment", "name"})
