from pathlib import Path

import numpy as np
import pytest
import torch

from farl.exploration import (
    CellStatistics,
    Episodes,
    ExplorationRecord,
    FragmentUse,
    ObservationSample,
    ParticleHistory,
    SurprisalTrace,
    VisitCounts,
)
from farl.memory.storage import load_state, save_state


def test_error_on_a_return_is_compared_with_that_of_the_visit_before() -> None:
    cells = CellStatistics(np.ones((2, 2), bool))
    there, elsewhere = np.zeros((1, 1, 2), np.int64), np.ones((1, 1, 2), np.int64)

    def visit(place: np.ndarray, error: float) -> None:
        cells.add(np.array([0]), place, np.array([[error]]))

    visit(there, 0.1)
    visit(there, 0.2)  # lingering is no return
    for _ in range(150):
        visit(elsewhere, 1.0)
    visit(there, 0.8)
    forgetting = cells.snapshot().forgetting
    assert forgetting[0, 0] == pytest.approx(4.0)
    assert np.isnan(forgetting).sum() == 3


def test_cells_in_blocks_are_what_single_steps_would_have_told() -> None:
    rng = np.random.default_rng(0)
    whole, single = (CellStatistics(np.ones((3, 3), bool)) for _ in range(2))
    for block in range(3):
        steps = 100 * block + np.arange(100)
        positions, errors, rewards = rng.integers(3, size=(100, 4, 2)), rng.random((100, 4)), rng.random((100, 4))
        whole.add(steps, positions, errors, rewards)
        for t in range(100):
            single.add(steps[t : t + 1], positions[t : t + 1], errors[t : t + 1], rewards[t : t + 1])
    for ours, theirs in zip(vars(whole.snapshot()).values(), vars(single.snapshot()).values(), strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_first_visit_is_the_earliest() -> None:
    cells = CellStatistics(np.ones((1, 3), bool))
    cells.add(np.array([10, 20, 30]), np.array([[[2, 0]], [[0, 0]], [[2, 0]]]))
    np.testing.assert_array_equal(cells.snapshot().first_visit, [[20.0, np.nan, 10.0]])


def test_last_complete_episode_stays_while_the_next_one_has_just_begun() -> None:
    episodes = Episodes()
    world = np.ones((1, 4), bool)
    episodes.begin(0, world, np.array([0, 0]))
    episodes.add(np.array([[5], [6]]), np.array([[[1, 0]], [[2, 0]]]))
    assert not episodes.snapshot()[0].complete
    episodes.end(0)
    episodes.begin(0, world, np.array([3, 0]))
    (shown,) = episodes.snapshot()
    assert shown.complete
    assert shown.coverage == 0.75
    np.testing.assert_array_equal(shown.fragments, [[-1, 5, 6, -1]])
    np.testing.assert_array_equal(shown.way, [[0, 0], [1, 0], [2, 0]])
    assert episodes.coverages == [0.75]
    assert not episodes.procedural
    episodes.begin(1, np.eye(4, dtype=bool), None)
    assert episodes.procedural


def test_sample_is_uniform_over_all_that_was_seen() -> None:
    sample = ObservationSample(1, capacity=500)
    for start in range(0, 20_000, 40):
        sample.add(np.arange(start, start + 40)[:, None], np.zeros(40, np.int64))
    kept = sample.snapshot((0, 0), ("t",)).places[:, 0]
    assert len(sample) == 500
    assert abs(kept.mean() - 10_000) < 5 * 20_000 / np.sqrt(12 * 500)
    assert kept.max() > 19_000


def test_principal_components_find_the_plane_that_the_observations_lie_in() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((300, 2)) * (3.0, 1.0)
    sample = ObservationSample(6)
    sample.add(hidden @ rng.standard_normal((2, 6)), np.zeros(300, np.int64))
    plane = sample.snapshot(None, [""] * 6)
    fitted = np.linalg.lstsq(plane.places, hidden - hidden.mean(axis=0), rcond=None)[1]
    assert (fitted < 1e-3 * (hidden**2).sum(axis=0)).all()
    assert plane.names[0].startswith("principal component 1")


def test_key_frames_stay_bounded_and_those_of_the_fragments_used_most_stay() -> None:
    use = FragmentUse()
    for fragment in range(100):
        visits = 1000 if fragment == 3 else 1
        flags = np.zeros(visits, bool)
        use.add(np.full(visits, fragment), flags, np.ones(visits))
        use.see(fragment, np.full((4, 4), fragment, np.uint8))
    frames = {each.fragment: each.frame for each in use.snapshot() if each.frame is not None}
    assert len(frames) == 64
    assert frames[3][0, 0] == 3
    assert 99 in frames


def test_history_of_particles_stays_bounded() -> None:
    history = ParticleHistory(3)
    for step in range(5000):
        history.add(step, np.full(3, 1 / 3), np.full(3, float(step)))
    drawn = history.snapshot()
    assert len(drawn.steps) <= 512
    assert (np.diff(drawn.steps) == np.diff(drawn.steps)[0]).all()
    np.testing.assert_allclose(drawn.effective_sample_size, 3.0)


def test_whole_record_survives_saving(tmp_path: Path) -> None:
    import networkx as nx

    record = ExplorationRecord(opened=7, axes=(0, 1), names=("a", "b"))
    record.graph = nx.MultiGraph([(0, 3, {"kind": "fracture"}), (0, 3, {"kind": "recall"})])
    record.visits, record.episodes = VisitCounts(np.ones((3, 3), bool)), Episodes()
    record.episodes.begin(0, np.ones((3, 3), bool), np.array([1, 1]))
    record.sample, record.use = ObservationSample(2), FragmentUse()
    record.sample.add(np.zeros((3, 2)), np.zeros(3, np.int64))
    record.use.add(np.zeros(3, np.int64), np.zeros(3, bool), np.ones(3))
    record.use.see(0, np.ones((2, 2, 3), np.uint8))
    save_state(record.state_dict(), tmp_path / "record.safetensors")
    again = ExplorationRecord.from_state_dict(load_state(tmp_path / "record.safetensors"))
    save_state(again.state_dict(), tmp_path / "again.safetensors")
    assert (tmp_path / "record.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert again.graph is not None
    assert again.graph.number_of_edges() == 2


def test_record_of_an_older_version_is_read() -> None:
    trace = SurprisalTrace(8)
    trace.add(0, 1.0, 0, False, False)
    state = trace.state_dict()
    state["points"] = state["points"][:, :7]  # without threshold and reward
    record = ExplorationRecord.from_state_dict({"visits": None, "trace": state})
    assert record.trace is not None
    assert record.trace.snapshot().surprisal[0] == 1.0


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


def test_trace_of_blocks_is_what_single_steps_would_have_told() -> None:
    rng, singly, together = np.random.default_rng(0), SurprisalTrace(16), SurprisalTrace(16)
    columns = (np.arange(500), rng.random(500), rng.integers(9, size=500), *(rng.random((2, 500)) < 0.1),
               rng.integers(3, size=500), rng.random(500), rng.random(500))  # fmt: skip
    for row in zip(*columns, strict=True):
        singly.add(*row)
    begin = 0
    while begin < 500:
        end = begin + int(rng.integers(1, 100))
        together.add(*(column[begin:end] for column in columns))
        begin = end
    ours, theirs = singly.snapshot(), together.snapshot()
    for name in ("steps", "surprisal", "mean", "fragments", "fractures", "recalls", "threshold", "intrinsic_reward"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def test_way_of_an_episode_that_never_ends_stays_bounded() -> None:
    episodes, steps = Episodes(), np.arange(90_000)
    episodes.begin(0, np.ones((3, 3), bool), None)
    for block in np.split(steps, 90):
        episodes.add(np.zeros((1_000, 1), np.int64), np.stack([block % 3, block % 2], axis=1)[:, None])
    (world,) = episodes._worlds.values()
    assert sum(len(part) for part in world.way) <= 40_000
    (episode,) = episodes.snapshot()
    np.testing.assert_array_equal(episode.way, np.stack([steps % 3, steps % 2], axis=1)[-20_000:])
    assert episode.counts.sum() == 90_000


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
