import itertools
import os
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from minigrid.wrappers import FlatObsWrapper
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from farl import FAR, FARVecEnv
from farl.envs.minigrid import OneHotObs, PositionInfo
from farl.errors import ConfigError
from farl.figures import Trace, Visits
from farl.memory.storage import load_state, save_state
from farl.sb3.exploration import ExplorationCallback
from tests.sb3.corridor import FakeCuriosity, learn, make_env, make_ppo

MAPS = {"visits.png", "fragment_map.png", "first_visit.png", "last_episode.png"}
PICTURES = MAPS | {"surprisal.png", "timeline.png", "memory_graph.png", "overview.png"}


def test_every_visit_counts_for_the_cell_of_the_step_and_the_fragment_active_there() -> None:
    callback = learn(make_env(2), 40)  # 20 steps each: four episodes of five steps
    assert callback.record.visits is not None
    visits = callback.record.visits.snapshot()
    layers = dict(zip(visits.fragment_ids.tolist(), visits.counts, strict=True))
    # The terminal cell 6 is counted, and the start cell 1 never: no step leads there.
    np.testing.assert_array_equal(layers[0][1], [0, 0, 8, 8, 0, 0, 0, 0])
    np.testing.assert_array_equal(layers[1][1], [0, 0, 0, 0, 8, 8, 8, 0])
    assert visits.counts[:, [0, 2]].sum() == 0
    assert visits.fractures is not None
    assert visits.recalls is not None
    assert visits.fractures.sum() == visits.fractures[1, 4]
    assert visits.recalls[1, 2] == 6  # both environments come back to fragment 0 after three of their resets


def test_coverage_includes_the_start_and_counts_reachable_cells() -> None:
    callback = ExplorationCallback()
    model = make_ppo(make_env(width=10))
    coverages = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            coverages.append(callback.coverage)
            return True

    model.learn(20, CallbackList([callback, Watch()]))
    assert coverages[:3] == [pytest.approx(2 / 10), pytest.approx(3 / 10), pytest.approx(4 / 10)]
    assert callback.coverage == 1.0


def test_random_starts_are_covered_when_their_episode_begins() -> None:
    env = make_env()
    starts = itertools.chain([1, 4], itertools.repeat(1))
    corridor = env.envs[0].unwrapped  # type: ignore[attr-defined]
    reset = corridor.reset

    def reset_elsewhere(**kwargs: Any) -> Any:
        observation, _ = reset(**kwargs)
        corridor.x = next(starts)
        return observation, corridor._info()

    corridor.reset = reset_elsewhere
    # Every step ends its episode in cell 1: to cell 4, where the second episode starts, no step leads.
    corridor.step = lambda action: (np.zeros(1, np.float32), 0.0, True, False, {"position": (1, 1)})
    callback = learn(env, 20)
    assert callback.record.visits is not None
    np.testing.assert_array_equal(np.flatnonzero(callback.record.visits.covered[1]), [1, 4])


@pytest.mark.parametrize("cls", [DummyVecEnv, partial(SubprocVecEnv, start_method="fork")])
def test_runs_without_positions_and_then_draws_no_map(cls: Any, tmp_path: Path) -> None:
    callback = learn(make_env(2, cls, positions=False), 40, out_dir=tmp_path)
    assert callback.coverage is None
    assert {path.name for path in tmp_path.iterdir()} == {
        "visits.png",
        "surprisal.png",
        "memory_graph.png",
        "overview.png",
    }


def test_runs_with_a_plain_algorithm_and_counts_all_visits_for_one_fragment(tmp_path: Path) -> None:
    env = VecNormalize(make_env(2))
    callback = learn(env, 40, fake=False, out_dir=tmp_path)
    assert callback.coverage == 1.0
    assert callback.record.visits is not None
    assert callback.record.visits.snapshot().sizes() == {0: 40.0}
    assert callback.record.trace is None
    assert {path.name for path in tmp_path.iterdir()} == {
        "visits.png",
        "first_visit.png",
        "last_episode.png",
        "overview.png",
    }


def test_runs_with_an_off_policy_algorithm() -> None:
    callback = ExplorationCallback()
    model = DQN("MlpPolicy", make_env(), learning_starts=10, buffer_size=100, policy_kwargs={"net_arch": [4]})
    model.learn(32, CallbackList([FakeCuriosity(), callback]))
    assert callback.record.visits is not None
    assert callback.record.visits.snapshot().total.sum() == 32


def test_writes_every_picture_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    learn(make_env(), 40, out_dir=tmp_path / "exploration")
    written = list((tmp_path / "exploration").iterdir())
    assert {path.name for path in written} == PICTURES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_a_failed_write_leaves_the_earlier_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback = learn(make_env(), 20, out_dir=tmp_path)
    before = (tmp_path / "visits.png").read_bytes()

    def fail(source: Any, target: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        callback.write(tmp_path)
    assert (tmp_path / "visits.png").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == PICTURES


def test_pictures_and_numbers_go_to_tensorboard_and_not_to_the_text_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_ppo(make_env(2))
    model.set_logger(configure(str(tmp_path), ["tensorboard", "csv", "json", "log"]))
    monkeypatch.setattr("farl.sb3.pictures._MOST_TIME", 1e9)  # so short a run would have to wait
    callback = ExplorationCallback(image_freq=80)
    model.learn(160, CallbackList([FakeCuriosity(), callback]))
    log = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert {"exploration/coverage", "exploration/episode_coverage"} <= set(log.Tags()["scalars"])
    pictures = {f"exploration/{Path(name).stem}" for name in PICTURES - {"overview.png"}}
    assert pictures == set(log.Tags()["images"])
    assert [event.step for event in log.Images("exploration/visits")] == [80, 160]
    assert "exploration/coverage" in (tmp_path / "progress.csv").read_text()


def test_a_run_shorter_than_image_freq_still_logs_its_pictures_at_the_end(tmp_path: Path) -> None:
    model = make_ppo(make_env())
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(40, ExplorationCallback(image_freq=10_000))
    assert "exploration/visits" in EventAccumulator(str(tmp_path)).Reload().Tags()["images"]


def test_no_pictures_are_drawn_with_an_image_freq_of_zero(tmp_path: Path) -> None:
    model = make_ppo(make_env())
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(40, ExplorationCallback(image_freq=0))
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["images"] == []


def test_a_resumed_run_continues_the_record(tmp_path: Path) -> None:
    first = learn(make_env(), 20)
    save_state(first.state_dict(), tmp_path / "exploration.safetensors")
    resumed = ExplorationCallback()
    resumed.load_state_dict(load_state(tmp_path / "exploration.safetensors"))
    make_ppo(make_env()).learn(20, CallbackList([FakeCuriosity(), resumed]))
    assert first.record.visits is not None
    assert resumed.record.visits is not None
    np.testing.assert_array_equal(resumed.record.visits.snapshot().counts, 2 * first.record.visits.snapshot().counts)
    assert resumed.record.trace is not None
    assert len(resumed.record.trace.snapshot().steps) == 40


def test_a_record_of_another_world_is_refused() -> None:
    callback = ExplorationCallback()
    callback.load_state_dict(learn(make_env(), 20).state_dict())
    with pytest.raises(ValueError, match=r"world of \(3, 8\) cells, this environment has \(3, 12\)"):
        make_ppo(make_env(width=10)).learn(20, callback)


def test_far_does_not_take_in_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(self: Any) -> Any:
        nonlocal asked
        asked += 1
        take_in(self)

    settings = {"n_steps": 40, "batch_size": 40, "n_epochs": 1, "seed": 0, "device": "cpu"}
    model = FAR(PPO)("MlpPolicy", make_env(2), far={"module": "rnd"}, **settings)
    take_in = type(model).take_in
    monkeypatch.setattr(type(model), "take_in", counted)
    model.learn(240, ExplorationCallback())
    assert asked < 3 * 6  # a few times a rollout of 40 steps, of which there are three


def test_negative_image_freq_is_refused() -> None:
    with pytest.raises(ValueError, match="image_freq must be 0"):
        ExplorationCallback(image_freq=-1)


def test_covers_the_cells_that_a_minigrid_agent_walks() -> None:
    env = make_vec_env("farl/HeteroRooms-2x3-v0", 3, env_kwargs={"max_steps": 7}, wrapper_class=OneHotObs)
    walked = set()

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            walked.update(info["position"] for info in self.locals["infos"])
            return True

    callback = ExplorationCallback()
    make_ppo(env).learn(60, CallbackList([callback, Watch()]))
    assert callback.record.visits is not None
    start = (4, 4)
    assert {(x, y) for y, x in np.argwhere(callback.record.visits.covered).tolist()} == walked | {start}


def test_what_is_recorded_at_the_end_of_a_rollout_is_what_each_step_would_have_told() -> None:
    class Asks(BaseCallback):
        def _on_step(self) -> bool:
            self.model.curiosity  # type: ignore[attr-defined]  # noqa: B018
            return True

    def record(asked: list[BaseCallback]) -> tuple[Visits, Trace]:
        env = make_vec_env("farl/HeteroRooms-2x3-v0", 3, env_kwargs={"max_steps": 50}, wrapper_class=OneHotObs, seed=1)
        far = {"criterion": {"name": "zscore", "threshold": 1.5, "min_samples": 5}, "warmup": 30}
        callback = ExplorationCallback()
        model = FAR(PPO)("MlpPolicy", env, n_steps=40, batch_size=40, n_epochs=1, seed=0, device="cpu", far=far)
        model.learn(240, callback=[*asked, callback])
        assert callback.record.visits is not None
        assert callback.record.trace is not None
        return callback.record.visits.snapshot(), callback.record.trace.snapshot()

    (visits, trace), (expected, expected_trace) = record([]), record([Asks()])
    assert len(visits.fragment_ids) > 2
    np.testing.assert_array_equal(visits.counts, expected.counts)
    np.testing.assert_array_equal(visits.fractures, expected.fractures)
    np.testing.assert_array_equal(trace.steps, expected_trace.steps)
    assert len(trace.steps) == 80
    np.testing.assert_allclose(trace.mean, expected_trace.mean, rtol=1e-3)


def test_worlds_that_change_are_told_and_covered_by_episodes() -> None:
    env = make_vec_env("MiniGrid-SimpleCrossingS9N1-v0", 3, seed=0, env_kwargs={"max_steps": 30}, wrapper_class=located)
    callback = ExplorationCallback()
    make_ppo(env).learn(400, callback)
    assert callback.procedural
    assert callback.coverage is not None
    episodes = callback.record.episodes
    assert episodes is not None
    shown = episodes.snapshot()
    assert len(shown) == 3
    assert all(episode.complete and 0 < episode.coverage < callback.coverage for episode in shown)
    assert "worlds" in callback.draw()


def test_one_world_is_not_called_procedural() -> None:
    env = make_vec_env("farl/HeteroRooms-2x3-v0", 2, env_kwargs={"max_steps": 10}, wrapper_class=OneHotObs)
    callback = ExplorationCallback()
    make_ppo(env).learn(80, callback)
    assert not callback.procedural
    assert "last_episode" in callback.draw()


def test_coverage_of_an_episode_is_logged_as_the_mean_of_those_that_ended(tmp_path: Path) -> None:
    model = make_ppo(make_env(2))
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(80, ExplorationCallback(image_freq=0))
    log = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in log.Scalars("exploration/episode_coverage")] == [1.0, 1.0]


def test_a_minigrid_without_positions_is_told_what_to_add(caplog: pytest.LogCaptureFixture) -> None:
    env = make_vec_env("MiniGrid-Empty-5x5-v0", 1, wrapper_class=FlatObsWrapper)
    callback = ExplorationCallback()
    make_ppo(env).learn(20, callback)
    assert "wrapper_class=PositionInfo" in caplog.text
    assert callback.coverage is None
    assert "visits" in callback.draw()  # over the principal components


def test_vectors_are_drawn_over_the_axes_that_are_named() -> None:
    callback = ExplorationCallback(axes=["position", "velocity"])
    make_ppo(make_vec_env("MountainCar-v0", 2)).learn(80, callback)
    assert callback.record.axes == (0, 1)
    figure = callback.draw()["visits"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("position", "velocity")


@pytest.mark.parametrize("axes", [["speed", "position"], [0, 2], [0], [True, 0]])
def test_axes_that_the_observation_has_not_are_refused(axes: Any) -> None:
    with pytest.raises(ConfigError, match="axes: "):
        make_ppo(make_vec_env("MountainCar-v0", 1)).learn(20, ExplorationCallback(axes=axes))


def test_images_make_a_gallery_of_what_was_seen_where_a_fragment_began() -> None:
    space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    env = make_vec_env(lambda: Flashes(space), 2, seed=0)
    far = {"criterion": {"name": "uniform", "every": 30}, "warmup": 10, "recall": None}
    model = FAR(PPO)("CnnPolicy", env, n_steps=40, batch_size=40, n_epochs=1, seed=0, device="cpu", far=far)
    callback = ExplorationCallback()
    model.learn(160, callback)
    assert callback.record.use is not None
    frames = [each for each in callback.record.use.snapshot() if each.frame is not None]
    assert len(frames) > 1
    assert all(each.frame is not None and each.frame.shape == (36, 36) for each in frames)
    assert "gallery" in callback.draw()
    assert "visits" not in callback.draw()


def test_curiosity_around_the_environment_is_found_too() -> None:
    env = FARVecEnv(make_env(2), {"criterion": {"name": "uniform", "every": 10}, "warmup": 5}, seed=0)
    callback = ExplorationCallback()
    make_ppo(env).learn(40, callback)
    assert env.curiosity is not None
    assert callback.record.opened == env.curiosity.fragments > 1
    drawn = set(callback.draw())
    assert {"timeline", "memory_graph"} <= drawn
    assert "surprisal" not in drawn  # a corridor that always looks the same surprises nobody


def test_pictures_wait_where_they_would_take_too_much_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farl.sb3.pictures._MOST_TIME", 1e-9)
    model = make_ppo(make_env())
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(100, ExplorationCallback(image_freq=20))
    log = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert [event.step for event in log.Images("exploration/visits")] == [100]


def located(env: Any) -> Any:
    return FlatObsWrapper(PositionInfo(env))


class Flashes(gym.Env[Any, Any]):
    """Random gray pictures."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space: gym.spaces.Box) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 255, self.observation_space.shape, np.uint8), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.np_random.integers(0, 255, self.observation_space.shape, np.uint8), 0.0, False, False, {}
