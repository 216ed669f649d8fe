"""Fragments of recognition are the rooms of a world, while PPO learns to explore it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from farl import FAR
from farl.envs.room_chain import RoomChainVecEnv
from farl.sb3.exploration import ExplorationCallback

ROOMS = 3


class Whereabouts(BaseCallback):
    """Notes the cell of every agent in every step."""

    def _on_training_start(self) -> None:
        self.cells: list[list[Any]] = []

    def _on_step(self) -> bool:
        self.cells.append([info["position"] for info in self.locals["infos"]])
        return True


def make(seed: int = 0) -> Any:
    far = {"module": {"name": "recognition", "graph": {}, "calibration": 512}, "warmup": 256}
    env = RoomChainVecEnv(8, cols=ROOMS)
    return FAR(PPO)("MlpPolicy", env, n_steps=128, batch_size=256, n_epochs=2, far=far, seed=seed, device="cpu")


def test_fragments_are_rooms_and_are_recalled() -> None:
    model, whereabouts = make(), Whereabouts()
    model.learn(14_336)
    exploration = ExplorationCallback(image_freq=0)
    model.learn(1024, callback=[whereabouts, exploration], log_interval=99, reset_num_timesteps=False)
    curiosity = model.curiosity
    room_of_cell = model.get_env().room_of_cell
    rooms = np.array([[room_of_cell[y, x] for x, y in cells] for cells in whereabouts.cells])
    fragments = np.array([step.events.active for step in model.curiosity_steps])
    inside = rooms >= 0
    assert ROOMS <= len(curiosity.memory) <= 2 * ROOMS
    agreement = adjusted_rand_score(rooms[inside], fragments[inside])
    assert agreement > 0.8
    assert exploration.room_agreement == pytest.approx(agreement)
    assert model.logger.name_to_value["far/room_agreement"] == pytest.approx(agreement)
    assert curiosity.recalls > 10
    assert set(curiosity.memory.ids) >= set(np.unique(curiosity.router.active).tolist())


def test_a_saved_run_goes_on_with_the_same_fragments(tmp_path: Path) -> None:
    model = make().learn(8192)
    model.save(tmp_path / "model")
    again = FAR(PPO).load(tmp_path / "model", env=RoomChainVecEnv(8, cols=ROOMS), device="cpu")
    ours, theirs = model.curiosity, again.curiosity
    places = np.arange(len(ours.module.places))
    assert len(places) > 100
    np.testing.assert_array_equal(ours.module.regions.of(places), theirs.module.regions.of(places))
    np.testing.assert_array_equal(ours.router.active, theirs.router.active)
    assert ours.memory.ids == theirs.memory.ids
    again.learn(1024)
    assert again.curiosity.recalls >= ours.recalls
