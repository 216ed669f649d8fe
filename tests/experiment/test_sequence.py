import signal
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from farl.errors import ConfigError
from farl.experiment.interruption import TrainingInterrupted
from farl.experiment.loading import parse_config
from farl.experiment.run import _Training, resume, train
from farl.experiment.run_directory import create_run_directory
from farl.experiment.tasks import task_at, task_environments
from farl.sb3.intrinsic_critic import IntrinsicCritic
from farl.sb3.rollout import Rollout

SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
LEVELS = [{}, {"kwargs": {"level": 1}}, {"kwargs": {"level": 2}}]


def experiment(sequence: dict[str, Any], **more: Any) -> dict[str, Any]:
    steps = sequence.get("steps", 64)
    return {
        "total_timesteps": steps * len(sequence["tasks"]),
        "device": "cpu",
        "environment": {"id": "CartPole", "kind": "control", "n_envs": 2, "kwargs": {"max_steps": 50}},
        "algorithm": {"name": "PPO", "hyperparameters": SMALL},
        "sequence": {"steps": steps, "episodes": 2, **sequence},
    } | more


def test_every_task_is_judged_with_all_before_it():
    metrics = train(parse_config(experiment({"tasks": LEVELS})))
    assert [len(row) for row in metrics["sequence_returns"]] == [1, 2, 3]
    assert metrics["total_timesteps"] == 192


def test_tasks_change_kwargs_and_keep_the_rest():
    config = parse_config(experiment({"tasks": LEVELS}))
    environments = task_environments(config)
    assert [environment.kwargs.get("level", 0) for environment in environments] == [0, 1, 2]
    assert {environment.kwargs["max_steps"] for environment in environments} == {50}
    assert [task_at(config, steps) for steps in (0, 63, 64, 128, 999)] == [0, 0, 1, 2, 2]


class Watch(_Training):
    """Notes the offsets that the model met at each rollout, and the optimiser's steps."""

    def watched(self) -> tuple[list[float], list[int]]:
        seen, counts = [], []
        original = self._learn

        def learn(fresh: bool) -> dict[str, Any]:
            model = self.model
            collect = model.collect_rollouts

            def collecting(env: Any, *args: Any, **kwargs: Any) -> bool:
                seen.append(float(np.abs(env.get_attr("offset")[0]).sum()))
                state = model.policy.optimizer.state_dict()["state"]
                counts.append(int(state[0]["step"]) if state else 0)
                return collect(env, *args, **kwargs)

            model.collect_rollouts = collecting
            return original(fresh)

        self._learn = learn
        self.run(None)
        return seen, counts


@pytest.mark.parametrize("reset", [[], ["optimizer"], ["policy"]])
def test_environments_change_between_rollouts_and_what_is_named_begins_anew(reset):
    seen, counts = Watch(parse_config(experiment({"tasks": LEVELS, "reset": reset})), None, None).watched()
    assert len(seen) == 6
    assert seen[0] == seen[1] == 0
    assert seen[2] == seen[3] > 0
    assert seen[4] == seen[5] not in (0, seen[2])
    # The update of the last rollout comes after the change.
    assert counts == ([0, 1, 2, 3, 4, 5] if not reset else [0, 1, 1, 2, 1, 2])


@pytest.mark.parametrize("reset", [[], ["normalization"]])
def test_normalisation_is_kept_or_begins_anew(reset):
    data = experiment({"tasks": LEVELS[:2], "reset": reset})
    data["environment"]["normalize_rewards"] = True
    training = Watch(parse_config(data), None, None)
    training.run(None)
    norm = training.model.get_vec_normalize_env()
    assert isinstance(norm, VecNormalize)
    assert (norm.ret_rms.count < 100) == bool(reset)


def test_a_run_resumes_in_the_middle_of_its_sequence(tmp_path, monkeypatch):
    from farl.experiment import run as module

    config = parse_config(experiment({"tasks": LEVELS}))
    run = create_run_directory("small", tmp_path / "run")
    original = module.RunTracker._on_step

    def stopping(self: Any) -> bool:
        if self.num_timesteps == 96:
            signal.raise_signal(signal.SIGINT)
        return original(self)

    monkeypatch.setattr(module.RunTracker, "_on_step", stopping)
    with pytest.raises(TrainingInterrupted):
        train(config, run.path)
    monkeypatch.setattr(module.RunTracker, "_on_step", original)
    written = run.config_file.read_text()
    with pytest.raises(ConfigError, match=r"must be 192, fixed by the tasks: sequence\.steps 64 x 3 tasks, found 500"):
        resume(run.path, 500)
    assert run.config_file.read_text() == written
    metrics = resume(run.path)
    assert [len(row) for row in metrics["sequence_returns"]] == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"a larger `sequence\.steps`"):
        resume(run.path)


@pytest.mark.parametrize("name", ["ParticlePPO", "DQN"])
def test_other_algorithms_go_through_a_sequence(name):
    settings: dict[str, Any] = {"policy_kwargs": {"net_arch": [8]}}
    settings |= {"learning_starts": 16} if name == "DQN" else {**SMALL, "n_particles": 2, "acting": "thompson"}
    algorithm = {"name": name, "hyperparameters": settings}
    data = experiment({"tasks": LEVELS[:2], "reset": ["optimizer"]}, algorithm=algorithm)
    assert len(train(parse_config(data))["sequence_returns"]) == 2


def test_minigrid_rooms_in_sequence():
    tasks = [{"id": "farl/HeteroRooms-2x3-v0"}, {"id": "farl/HeteroRooms-1x6-v0"}]
    environment = {"id": tasks[0]["id"], "kind": "minigrid", "n_envs": 2, "kwargs": {"max_steps": 20}}
    assert len(train(parse_config(experiment({"tasks": tasks}, environment=environment)))["sequence_returns"]) == 2


@pytest.mark.parametrize(
    ("sequence", "more", "message"),
    [
        ({"tasks": LEVELS}, {"total_timesteps": 100}, "total_timesteps: must be 192"),
        ({"tasks": [{}, {"id": "Acrobat"}]}, {}, "sequence.tasks.1.id: unknown control environment 'Acrobat'"),
        ({"tasks": [{}, {"id": "Acrobot"}]}, {}, "sequence.tasks.1: its spaces"),
        ({"tasks": [{}, {"n_envs": 7}]}, {}, "n_envs: must be the same in all tasks"),
        ({"tasks": [{}, {"kwargs": {"level": -4}}]}, {}, "sequence.tasks.1: level"),
        ({"tasks": []}, {"total_timesteps": 64}, "sequence.tasks"),
        ({"tasks": LEVELS, "reset": ["all"]}, {}, "reset"),
    ],
)
def test_bad_input_names_the_key(sequence, more, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(experiment(sequence, **more))


@pytest.mark.parametrize(
    ("environment", "games"),
    [
        (
            {"id": "ALE/Pong-v5", "kind": "atari", "n_envs": 2, "kwargs": {"full_action_space": True}},
            ["ALE/Pong-v5", "ALE/Breakout-v5"],
        ),
        (
            {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "n_envs": 2},
            ["farl/HeteroRooms-2x3-v0", "farl/HeteroRooms-3x3-v0"],
        ),
    ],
    ids=["atari", "minigrid"],
)
def test_games_and_rooms_come_in_turn(environment, games):
    tasks = [{"id": game} for game in games]
    config = experiment({"tasks": tasks, "episodes": 0}, environment=environment)
    policy = "CnnPolicy" if environment["kind"] == "atari" else "MlpPolicy"
    config["algorithm"] = {"name": "PPO", "policy": policy, "hyperparameters": SMALL}
    assert train(parse_config(config))["total_timesteps"] == 128


RND = {"module": {"name": "rnd", "features": 8, "hidden": 8}, "warmup": 16, "batch_size": 16, "critic_hidden": [8]}
ROOMS = {"id": "farl/HeteroRooms-2x3-v0", "kind": "minigrid", "n_envs": 2}


@pytest.mark.parametrize("reset", [[], ["optimizer"], ["policy"]])
def test_the_curiosity_goes_on_through_all_tasks(reset):
    training = _Training(parse_config(experiment({"tasks": LEVELS, "reset": reset}, far=RND)), None, None)
    training.run(None)
    assert training.model.curiosity.samples_seen == 192


def test_the_curiosity_sees_what_the_present_task_shows(monkeypatch):
    environment = {"id": "CartPole", "kind": "control", "n_envs": 2, "normalize_observations": True}
    training = _Training(parse_config(experiment({"tasks": LEVELS}, environment=environment, far=RND)), None, None)
    add, transitions = Rollout.add, []

    def compared(self: Any, new_observations: Any, *args: Any) -> None:
        before = self._observations
        add(self, new_observations, *args)
        shown = training.model.get_vec_normalize_env().get_original_obs()
        np.testing.assert_allclose(self._observations, shown, rtol=1e-6)
        transitions.append((before.numpy().copy(), self.latest.numpy().copy()))

    monkeypatch.setattr(Rollout, "add", compared)
    training.run(None)
    # No transition leads from one level, which is an offset of all that is shown, into another.
    assert max(np.abs(after - before).max() for before, after in transitions) < 2.0


def test_a_rollout_is_valued_where_it_ended_and_not_where_the_next_task_begins(monkeypatch):
    goes_on, advantages = [], IntrinsicCritic.advantages

    def noted(self: Any, buffer: Any, rewards: Any, last: Any, starts: Any) -> Any:
        goes_on.append(~np.asarray(starts, bool))
        np.testing.assert_array_equal(last[goes_on[-1]], training.model._rollout.latest[goes_on[-1]])
        return advantages(self, buffer, rewards, last, starts)

    monkeypatch.setattr(IntrinsicCritic, "advantages", noted)
    training = _Training(parse_config(experiment({"tasks": LEVELS}, far=RND)), None, None)
    training.run(None)
    assert len(goes_on) == 6
    assert all(each.any() for each in goes_on[1::2])  # tasks end with these


def test_an_agent_that_the_graph_leads_goes_through_a_sequence():
    data = experiment({"tasks": [{}, {"id": "farl/HeteroRooms-1x6-v0"}]}, environment=ROOMS, far={})
    training = _Training(parse_config(data), None, None)
    training.run(None)
    assert training.model.n_advised
    assert training.model.curiosity.samples_seen == 128
