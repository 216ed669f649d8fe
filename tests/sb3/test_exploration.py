import itertools
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import networkx as nx
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from farl import FAR
from farl.envs.minigrid import OneHotObs
from farl.figures import Trace, Visits
from farl.memory.storage import load_state, save_state
from farl.sb3.exploration import ExplorationCallback, SurprisalTrace, VisitCounts

PICTURES = {"visitation.png", "surprisal.png", "memory_graph.png", "overview.png"}


class Corridor(gym.Env[Any, Any]):
    """A corridor in a ring of walls. The agent walks right by itself, and the episode ends at the last cell."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, width: int = 6, positions: bool = True) -> None:
        self.width = width
        self.positions = positions
        if positions:
            self.reachable = np.zeros((3, width + 2), bool)
            self.reachable[1, 1:-1] = True

    def _info(self) -> dict[str, Any]:
        return {"position": (self.x, 1)} if self.positions else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 1
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += 1
        return np.zeros(1, np.float32), 0.0, self.x == self.width, False, self._info()


class FakeCuriosity(BaseCallback):
    """Stands in for `model.curiosity`: fragment 0 in the first three cells, a new one at first sight of the fourth."""

    def _on_training_start(self) -> None:
        graph = nx.MultiGraph([(0, 1, {"kind": "fracture"})])
        n = self.training_env.num_envs
        self.active = np.zeros(n, np.int64)
        self.seen = False
        self.curiosity = SimpleNamespace(last=None, fragments=1, recalls=0, memory=SimpleNamespace(graph=graph))
        self.model.curiosity = self.curiosity  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        previous = self.active
        x = np.array([info.get("position", (0, 0))[0] for info in self.locals["infos"]])
        self.active = (x > 3).astype(np.int64)
        changed = self.active != previous
        fragmented = changed & (self.active == 1) & (not self.seen)
        self.seen |= bool(fragmented.any())
        self.curiosity.fragments += int(fragmented.any())
        self.curiosity.recalls += int((changed & ~fragmented).sum())
        events = SimpleNamespace(
            active=self.active, previous=previous, fragmented=fragmented, recalled=changed & ~fragmented
        )
        self.curiosity.last = SimpleNamespace(surprisal=x / 10 + 0.05, events=events)
        return True


def make_env(n_envs: int = 1, cls: Any = DummyVecEnv, **kwargs: Any) -> VecEnv:
    env: VecEnv = cls([lambda: Monitor(Corridor(**kwargs)) for _ in range(n_envs)])
    return env


def make_ppo(env: VecEnv, **kwargs: Any) -> PPO:
    return PPO("MlpPolicy", env, n_steps=20, batch_size=20, n_epochs=1, policy_kwargs={"net_arch": [4]}, **kwargs)


def learn(env: VecEnv, steps: int, fake: bool = True, **kwargs: Any) -> ExplorationCallback:
    callback = ExplorationCallback(**kwargs)
    make_ppo(env).learn(steps, CallbackList([FakeCuriosity(), callback] if fake else [callback]))
    return callback


def test_every_visit_counts_for_the_cell_of_the_step_and_the_fragment_active_there() -> None:
    callback = learn(make_env(2), 40)  # 20 steps each: four episodes of five steps
    assert callback.visits is not None
    visits = callback.visits.snapshot()
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
    assert callback.visits is not None
    np.testing.assert_array_equal(np.flatnonzero(callback.visits.covered[1]), [1, 4])


@pytest.mark.parametrize("cls", [DummyVecEnv, partial(SubprocVecEnv, start_method="fork")])
def test_runs_without_positions_and_then_draws_no_map(cls: Any, tmp_path: Path) -> None:
    callback = learn(make_env(2, cls, positions=False), 40, out_dir=tmp_path)
    assert callback.coverage is None
    assert {path.name for path in tmp_path.iterdir()} == PICTURES - {"visitation.png"}


def test_runs_with_a_plain_algorithm_and_counts_all_visits_for_one_fragment(tmp_path: Path) -> None:
    env = VecNormalize(make_env(2))
    callback = learn(env, 40, fake=False, out_dir=tmp_path)
    assert callback.coverage == 1.0
    assert callback.visits is not None
    assert callback.visits.snapshot().sizes() == {0: 40.0}
    assert callback.trace is None
    assert {path.name for path in tmp_path.iterdir()} == {"visitation.png", "overview.png"}


def test_runs_with_an_off_policy_algorithm() -> None:
    callback = ExplorationCallback()
    model = DQN("MlpPolicy", make_env(), learning_starts=10, buffer_size=100, policy_kwargs={"net_arch": [4]})
    model.learn(32, CallbackList([FakeCuriosity(), callback]))
    assert callback.visits is not None
    assert callback.visits.snapshot().total.sum() == 32


def test_writes_every_picture_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    learn(make_env(), 40, out_dir=tmp_path / "exploration")
    written = list((tmp_path / "exploration").iterdir())
    assert {path.name for path in written} == PICTURES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_a_failed_write_leaves_the_earlier_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback = learn(make_env(), 20, out_dir=tmp_path)
    before = (tmp_path / "visitation.png").read_bytes()

    def fail(source: Any, target: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        callback.write(tmp_path)
    assert (tmp_path / "visitation.png").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == PICTURES


def test_pictures_and_numbers_go_to_tensorboard_and_not_to_the_text_formats(tmp_path: Path) -> None:
    model = make_ppo(make_env(2))
    model.set_logger(configure(str(tmp_path), ["tensorboard", "csv", "json", "log"]))
    model.learn(160, CallbackList([FakeCuriosity(), ExplorationCallback(image_freq=80)]))
    log = EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert {"exploration/coverage", "exploration/fragments", "exploration/recalls"} <= set(log.Tags()["scalars"])
    pictures = {"exploration/visitation", "exploration/surprisal", "exploration/memory_graph"}
    assert pictures == set(log.Tags()["images"])
    assert [event.step for event in log.Images("exploration/visitation")] == [80, 160]
    assert "exploration/coverage" in (tmp_path / "progress.csv").read_text()


def test_a_run_shorter_than_image_freq_still_logs_its_pictures_at_the_end(tmp_path: Path) -> None:
    model = make_ppo(make_env())
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    model.learn(40, ExplorationCallback(image_freq=10_000))
    assert "exploration/visitation" in EventAccumulator(str(tmp_path)).Reload().Tags()["images"]


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
    assert first.visits is not None
    assert resumed.visits is not None
    np.testing.assert_array_equal(resumed.visits.snapshot().counts, 2 * first.visits.snapshot().counts)
    assert resumed.trace is not None
    assert len(resumed.trace.snapshot().steps) == 40


def test_a_record_of_another_world_is_refused() -> None:
    callback = ExplorationCallback()
    callback.load_state_dict(learn(make_env(), 20).state_dict())
    with pytest.raises(ValueError, match=r"world of \(3, 8\) cells, this environment has \(3, 12\)"):
        make_ppo(make_env(width=10)).learn(20, callback)


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
    assert callback.visits is not None
    start = (4, 4)
    assert {(x, y) for y, x in np.argwhere(callback.visits.covered).tolist()} == walked | {start}


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
        assert callback.visits is not None
        assert callback.trace is not None
        return callback.visits.snapshot(), callback.trace.snapshot()

    (visits, trace), (expected, expected_trace) = record([]), record([Asks()])
    assert len(visits.fragment_ids) > 2
    np.testing.assert_array_equal(visits.counts, expected.counts)
    np.testing.assert_array_equal(visits.fractures, expected.fractures)
    np.testing.assert_array_equal(trace.steps, expected_trace.steps)
    assert len(trace.steps) == 80
    np.testing.assert_allclose(trace.mean, expected_trace.mean, rtol=1e-3)


def test_visits_stay_true_and_bounded_when_fragments_are_many() -> None:
    counts = VisitCounts(np.ones((4, 4), bool), max_layers=5)
    rng = np.random.default_rng(0)
    total = np.zeros((4, 4), int)
    for step in range(400):
        # Ids grow without end; fragment 0 comes back all the time and is never merged away.
        fragments = np.array([0, step // 4, step // 4])
        positions = rng.integers(4, size=(3, 2))
        counts.add(fragments, positions)
        np.add.at(total, (positions[:, 1], positions[:, 0]), 1)
    visits = counts.snapshot()
    assert len(visits.counts) <= 5
    np.testing.assert_array_equal(visits.total, total)
    assert visits.sizes()[0] == 400 + 2 * 4
    assert len(set(visits.fragment_ids.tolist())) == len(visits.fragment_ids)


def test_environments_in_the_same_cell_and_fragment_are_all_counted() -> None:
    counts = VisitCounts(np.ones((2, 2), bool))
    counts.add(np.zeros(5, np.int64), np.ones((5, 2), np.int64))
    assert counts.snapshot().total[1, 1] == 5


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 17, 100])
def test_trace_stays_bounded_and_keeps_peaks_means_and_events(n: int) -> None:
    rng = np.random.default_rng(n)
    surprisal = rng.random(n)
    fractured, recalled = rng.random((2, n)) < 0.2
    elsewhere = rng.integers(3, size=n)
    trace = SurprisalTrace(capacity=8)
    for step in range(n):
        trace.add(step, surprisal[step], step // 3, fractured[step], recalled[step], int(elsewhere[step]))
    points = trace.snapshot()
    stride = 1
    while n > 8 * stride:
        stride *= 2
    chunks = [slice(at, at + stride) for at in range(0, n, stride)]
    np.testing.assert_array_equal(points.steps, [chunk.start for chunk in chunks])
    np.testing.assert_allclose(points.surprisal, [surprisal[chunk].max() for chunk in chunks])
    np.testing.assert_allclose(points.mean, [surprisal[chunk].mean() for chunk in chunks])
    np.testing.assert_array_equal(points.fragments, [(min(chunk.stop, n) - 1) // 3 for chunk in chunks])
    np.testing.assert_array_equal(points.fractures, [fractured[chunk].sum() for chunk in chunks])
    np.testing.assert_array_equal(points.recalls, [recalled[chunk].sum() for chunk in chunks])
    np.testing.assert_array_equal(points.fractures_elsewhere, [elsewhere[chunk].sum() for chunk in chunks])


def test_visits_and_trace_survive_saving_and_go_on_alike(tmp_path: Path) -> None:
    visits, trace = VisitCounts(np.ones((3, 3), bool), max_layers=4), SurprisalTrace(capacity=8)

    def feed(visits: VisitCounts, trace: SurprisalTrace, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for step in range(30):
            fragments, positions = rng.integers(20, size=2), rng.integers(3, size=(2, 2))
            visits.add(fragments, positions)
            visits.add_events(fragments > 10, fragments < 5, positions)
            trace.add(step, rng.random(), int(fragments[0]), False, True)

    feed(visits, trace, 1)
    save_state({"visits": visits.state_dict(), "trace": trace.state_dict()}, tmp_path / "state")
    state = load_state(tmp_path / "state")
    restored, restored_trace = VisitCounts.from_state_dict(state["visits"], max_layers=4), SurprisalTrace(8)
    restored_trace.load_state_dict(state["trace"])
    feed(visits, trace, 2)
    feed(restored, restored_trace, 2)
    ours, theirs = visits.state_dict(), restored.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    np.testing.assert_array_equal(trace.snapshot().surprisal, restored_trace.snapshot().surprisal)
