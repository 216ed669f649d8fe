import numpy as np
import pytest

from benchmarks._forgetting_methods import SETTINGS, make_curiosity
from benchmarks._forgetting_study import Study
from benchmarks._forgetting_walk import Walkers
from farl.envs.room_chain import RoomChain

WORLD = RoomChain(1, 3, "color")


def test_walkers_stay_in_their_room_and_go_to_the_next_on_a_shortest_way() -> None:
    walkers = Walkers(WORLD, 4, seed=0)
    for stride in walkers.roam(0, 200):
        assert (WORLD.rooms[stride.after] == 0).all()
    visited = {int(pose) for stride in walkers.roam(0, 2000) for pose in stride.after}
    assert len(visited) > 0.9 * 4 * 49
    walkers.poses[:] = WORLD.pose_at(0, 0, direction=0)
    strides = list(walkers.move(1))
    assert len(strides) == 8
    assert (walkers.poses == WORLD.pose_at(0, 1, direction=0)).all()


def test_metrics_of_a_hand_made_case() -> None:
    study = Study(make_curiosity("rnd", 2, 3, 1e-3, seed=0), WORLD, seed=0)
    study.first_sight[:], study.after_visit[:], study.on_return[:2] = 4.0, (1.0, 0.5, 9.0), (2.0, 4.0)
    study._shares = np.array([[8.0, 0.0], [2.0, 0.0], [0.0, 10.0]])
    metrics = study.metrics()
    assert metrics["F"] == pytest.approx(4.0)  # sqrt(2 * 8): the last room was not left
    assert metrics["N"] == pytest.approx(3.0 / 4.0)
    assert metrics["return_error"] == pytest.approx(3.0)
    assert metrics["purity"] == pytest.approx(0.9)


@pytest.mark.parametrize("method", sorted(SETTINGS))
def test_every_method_goes_through_the_study(method: str) -> None:
    study = Study(make_curiosity(method, 8, 3, 1e-3, seed=0, modules=2), WORLD, seed=0)
    study.run(rollouts=2, rollout=128, return_rollouts=1)
    metrics = study.metrics()
    assert np.isfinite(list(metrics.values())).all()
    assert (metrics["purity"] == 1.0) == (method == "oracle")


def test_wide_network_and_ensemble_have_as_many_weights_as_the_modules_together() -> None:
    def weights(method: str, modules: int) -> int:
        predictor = make_curiosity(method, 2, 3, 1e-3, seed=0, modules=modules).module.predictor
        return sum(tensor.numel() for tensor in predictor.parameters())

    assert weights("rnd-wide", 5) == pytest.approx(5 * weights("rnd", 1), rel=0.02)
    assert weights("ensemble", 5) == 5 * weights("rnd", 1)
