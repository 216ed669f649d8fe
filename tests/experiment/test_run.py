import json
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from farl.errors import ConfigError
from farl.experiment.callbacks import Status
from farl.experiment.checkpoint import latest_checkpoint
from farl.experiment.config import ExperimentConfig
from farl.experiment.environments import make_vec_env
from farl.experiment.evaluation import evaluate
from farl.experiment.interruption import TrainingInterrupted
from farl.experiment.learner import load_learner
from farl.experiment.recording import record
from farl.experiment.run import resume, train
from farl.experiment.run_directory import RunDirectory

MakeConfig = Callable[..., ExperimentConfig]
MINIGRID = {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "n_envs": 2, "kwargs": {"max_steps": 50}}
DQN = {
    "name": "DQN",
    "hyperparameters": {"buffer_size": 1000, "learning_starts": 20, "policy_kwargs": {"net_arch": [8]}},
}


def run_dir(tmp_path: Path, name: str = "run") -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


class Interrupter:
    """Raises the signal of Ctrl-C after some progress."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.sent = self.ended = False

    def started(self, timesteps: int, total_timesteps: int) -> None:
        pass

    def progressed(self, status: Status) -> None:
        if status.timesteps >= self.after and not self.sent:
            self.sent = True
            signal.raise_signal(signal.SIGINT)

    def finished(self) -> None:
        self.ended = True


@pytest.fixture
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farl.experiment.callbacks.SECONDS_BETWEEN_REPORTS", -1.0)


def weights(path: Path, config: ExperimentConfig) -> list[np.ndarray]:
    checkpoint = latest_checkpoint(path / "checkpoints")
    model = load_learner(config, checkpoint, None)
    return [parameter.detach().numpy() for parameter in model.policy.parameters()]


def test_run_directory_holds_what_it_promises(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(environment=MINIGRID, far={"warmup": 20}, evaluation={"freq": 128, "episodes": 2})
    path = run_dir(tmp_path)
    metrics = train(config, path)
    assert json.loads((path / "metrics.json").read_text()) == metrics
    assert RunDirectory(path).read_config() == config
    assert list(path.glob("events.*"))
    assert list((path / "exploration").glob("*.png"))
    report = (path / "report.html").read_text()
    pictures = {picture.stem for picture in (path / "exploration").glob("*.png")} - {"overview"}
    assert report.count("src='data:image/png;base64,") == len(pictures)
    assert "src='http" not in report
    performance = {
        "steps_per_second",
        "wall_seconds",
        "ep_rew_mean",
        "success_rate",
        "coverage",
        "coverage_90_timesteps",
    }
    assert set(metrics) >= performance | {"total_timesteps", "fragments", "recalls", "ltm_bytes", "seed", "machine"}
    assert metrics["total_timesteps"] == 256
    assert 0 < metrics["coverage"] < 1
    assert metrics["fragments"] >= 1
    assert metrics["evaluation_ep_rew_mean"] is not None
    assert set(metrics["versions"]) >= {"farl", "python", "torch", "sb3", "numpy", "gymnasium"}


def test_train_without_a_directory_writes_nothing(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = pickle.loads(pickle.dumps(train))(pickle.loads(pickle.dumps(make_config())))
    assert metrics["total_timesteps"] == 256
    assert list(tmp_path.iterdir()) == []


def test_same_seed_gives_the_same_weights_and_another_seed_does_not(tmp_path: Path, make_config: MakeConfig) -> None:
    outcomes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        config = make_config(seed=seed, logging={"tensorboard": False})
        train(config, run_dir(tmp_path, name))
        outcomes.append(weights(tmp_path / name, config))
    assert all(np.array_equal(a, b) for a, b in zip(outcomes[0], outcomes[1], strict=True))
    assert not all(np.array_equal(a, c) for a, c in zip(outcomes[0], outcomes[2], strict=True))


@pytest.mark.usefixtures("report_every_step")
@pytest.mark.parametrize("algorithm", [None, DQN])
def test_interrupted_run_saves_and_resumes_to_its_budget(
    tmp_path: Path, make_config: MakeConfig, algorithm: dict[str, Any] | None
) -> None:
    config = make_config(**({"algorithm": algorithm} if algorithm else {}))
    path = run_dir(tmp_path)
    observer = Interrupter(after=100)
    with pytest.raises(TrainingInterrupted) as caught:
        train(config, path, observer)
    assert observer.ended
    assert caught.value.checkpoint is not None
    assert 100 <= latest_checkpoint(path / "checkpoints").timesteps < 256
    assert not (path / "metrics.json").exists()
    assert resume(path)["total_timesteps"] >= 256
    with pytest.raises(ConfigError, match="done already"):
        resume(path)


@pytest.mark.usefixtures("report_every_step")
def test_resumed_learning_rate_does_not_jump(tmp_path: Path, make_config: MakeConfig) -> None:
    path = run_dir(tmp_path)
    with pytest.raises(TrainingInterrupted):
        train(make_config(total_timesteps=620), path, Interrupter(after=300))
    resume(path)
    events = EventAccumulator(str(path)).Reload().Scalars("train/learning_rate")
    after = [event for event in events if event.step > 300]
    *during, last = after
    assert during
    for event in during:  # logged one rollout of 64 steps after it was set
        assert event.value == pytest.approx(1e-3 * (1 - (event.step - 64) / 620))
    # The last rollout of a run may go beyond its total: the rate must not become negative, which would unlearn.
    assert last.step > 620
    assert last.value == 0.0


def test_checkpoint_holds_generators_normalisation_replay_buffer_and_more(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    from farl.experiment.checkpoint import read_checkpoint, restore_normalisation, restore_replay, save_checkpoint
    from farl.experiment.learner import build_learner
    from farl.experiment.model_state import random_state, restore_randomness

    environment = {"id": "CartPole-v1", "n_envs": 2, "normalize_observations": True, "normalize_rewards": True}
    config = make_config(environment=environment, algorithm=DQN)
    venv = make_vec_env(config.environment, 0)
    model: Any = build_learner(config, venv)
    model.learn(200)
    extra = {"mine": np.arange(3), "text": "x", "nothing": None, "random": random_state(model)}
    extra |= {"run": {}, "environments": None, "model": None, "exploration": None, "events": {}}
    save_checkpoint(tmp_path, model, "DQN", extra, keep=1)
    expected = (torch.rand(3), np.random.rand(3), model.action_space.sample())  # noqa: NPY002

    other_venv = make_vec_env(config.environment, 5)
    checkpoint = latest_checkpoint(tmp_path)
    other: Any = load_learner(config, checkpoint, other_venv)
    state = read_checkpoint(checkpoint)
    restore_replay(checkpoint, other)
    restore_normalisation(checkpoint, other.get_vec_normalize_env())
    restore_randomness(other, state["random"])
    assert state["mine"].tolist() == [0, 1, 2]
    assert (state["text"], state["nothing"]) == ("x", None)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002
    assert other.action_space.sample() == expected[2]
    assert np.array_equal(other_venv.obs_rms.mean, venv.obs_rms.mean)  # type: ignore[attr-defined]
    assert other_venv.ret_rms.var == venv.ret_rms.var  # type: ignore[attr-defined]
    assert other.replay_buffer.pos == model.replay_buffer.pos == 100
    for name in ("observations", "actions", "rewards", "dones", "timeouts", "next_observations"):
        assert np.array_equal(getattr(other.replay_buffer, name)[:100], getattr(model.replay_buffer, name)[:100])


def test_evaluation_is_reproducible_and_agrees_with_its_returns(tmp_path: Path, make_config: MakeConfig) -> None:
    path = run_dir(tmp_path)
    train(make_config(environment={"id": "CartPole-v1", "n_envs": 2, "normalize_observations": True}), path)
    first, second = (evaluate(RunDirectory(path), 6, deterministic=False, seed=3) for _ in range(2))
    assert first == second
    assert first.mean.value == pytest.approx(np.mean(first.returns))
    assert first.mean.low <= first.mean.value <= first.mean.high
    assert len(first.returns) == 6
    assert first.returns == [float(length) for length in first.lengths]  # CartPole pays 1 a step: nothing is normalised


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_recording_writes_a_video(tmp_path: Path, make_config: MakeConfig, suffix: str) -> None:
    path = run_dir(tmp_path)
    train(make_config(environment=MINIGRID, total_timesteps=64), path)
    out = tmp_path / f"x{suffix}"
    assert record(RunDirectory(path), out, episodes=1, deterministic=True, seed=0).frames == 51
    assert out.stat().st_size > 1000
    with pytest.raises(ConfigError, match="exists already"):
        record(RunDirectory(path), out, episodes=1, deterministic=True, seed=0)


def test_checkpoint_of_another_experiment_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    cartpole, rooms = run_dir(tmp_path, "cartpole"), run_dir(tmp_path, "rooms")
    train(make_config(), cartpole)
    train(make_config(environment=MINIGRID), rooms)
    foreign = next((rooms / "checkpoints").iterdir())
    foreign.rename(cartpole / "checkpoints" / "step_999999999")
    with pytest.raises(ConfigError, match="another experiment"):
        resume(cartpole, total_timesteps=10**10)
    RunDirectory(cartpole).write_config(make_config(far={}))
    with pytest.raises(ConfigError, match=r"holds PPO, but config.yaml says FAR\(PPO\)"):
        evaluate(RunDirectory(cartpole), 2, deterministic=True, seed=0)


def test_fast_trains_the_same_and_loads_either_way(tmp_path: Path, make_config: MakeConfig) -> None:
    plain = make_config().algorithm
    returns = []
    for fast in (False, True):
        config = make_config(algorithm=plain.model_copy(update={"fast": fast}).model_dump())
        path = run_dir(tmp_path, f"fast-{fast}")
        returns.append(train(config, path)["ep_rew_mean"])
        other = make_config(algorithm=plain.model_copy(update={"fast": not fast}).model_dump())
        load_learner(other, latest_checkpoint(RunDirectory(path).checkpoints), None)
    assert returns[0] == returns[1]


def test_fast_is_refused_where_there_is_none(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"algorithm\.fast: Fast takes PPO"):
        make_config(algorithm={**DQN, "fast": True})
