"""The maps that explorers built are saved as robots save theirs, and open again."""

import numpy as np
import pytest

from farl.agents.farmap_plus import FARMapPlus
from farl.cli import main
from farl.envs.map_world import MapWorldEnv, MapWorldVecEnv, OccupancyGrid, load_occupancy_map, save_occupancy_map
from farl.errors import ConfigError


def plan():
    """Two rooms and a door, 0.25 m a cell."""
    cells = np.ones((14, 23), np.int8)
    cells[1:-1, 1:11] = cells[1:-1, 12:-1] = cells[6, 11] = 0
    return OccupancyGrid(cells, 0.25, (3.0, -2.0, 0.0))


@pytest.fixture
def explored(tmp_path):
    env = MapWorldVecEnv(2, maps=save_occupancy_map(tmp_path / "plan.yaml", plan()), scale=1, until_covered=False)
    agent = FARMapPlus(env=env, largest=120, smallest=60, seed=0)
    agent.learn(800, log_interval=0)
    assert (env.worlds.coverage == 1.0).all()
    assert agent.explorers.fragments > 0
    return agent, env


@pytest.mark.parametrize("name", ["map.yaml", "map.png"])
@pytest.mark.parametrize("world", [0, 1])
def test_a_saved_map_is_the_plan_that_was_explored(explored, tmp_path, name, world):
    agent, env = explored
    saved = load_occupancy_map(agent.save_map(tmp_path / name, world))
    assert saved.resolution == 0.25
    row, col = (int(value) for value in env.worlds.start[world])
    # The odometry's zero, (0, 0) in the map's coordinates, is the middle of the cell where it started.
    left = col + (saved.origin[0] / 0.25 + 0.5)
    bottom = row - (saved.origin[1] / 0.25 + 0.5)
    top, left = round(bottom) - len(saved.cells) + 1, round(left)
    true = plan().cells[top : top + saved.cells.shape[0], left : left + saved.cells.shape[1]]
    known = saved.cells >= 0
    np.testing.assert_array_equal(saved.cells[known], true[known])
    assert (saved.cells == 0).sum() == (plan().cells == 0).sum()


def test_a_saved_map_can_be_explored(explored, tmp_path):
    env = MapWorldEnv(maps=explored[0].save_map(tmp_path / "map.yaml"), scale=1)
    env.reset(seed=0)
    assert env.reachable.sum() == (plan().cells == 0).sum()


def test_a_loaded_agent_saves_the_same_map(explored, tmp_path):
    agent, _ = explored
    agent.save(tmp_path / "agent.zip")
    again = FARMapPlus.load(tmp_path / "agent.zip")
    saved, resaved = agent.save_map(tmp_path / "a.yaml"), again.save_map(tmp_path / "b.yaml")
    np.testing.assert_array_equal(load_occupancy_map(saved).cells, load_occupancy_map(resaved).cells)
    assert load_occupancy_map(resaved).resolution == 0.25


def test_bad_requests_for_a_map_get_one_line(explored, tmp_path):
    agent, env = explored
    with pytest.raises(ConfigError, match="no world 2"):
        agent.save_map(tmp_path / "map.yaml", 2)
    with pytest.raises(ConfigError, match="explore first"):
        FARMapPlus(env=env).save_map(tmp_path / "map.yaml")
    with pytest.raises(ConfigError, match=r"\.tiff"):
        agent.save_map(tmp_path / "map.tiff")
    assert not list(tmp_path.glob("map*"))


RUN = """\
total_timesteps: 600
device: cpu
environment: {id: farl/MapWorld-Small-v0, n_envs: 2}
algorithm: {name: FARMapPlus, policy: MultiInputPolicy}
logging: {tensorboard: false, image_freq: 0}
"""


def test_the_command_writes_the_map_of_a_run(tmp_path, capsys):
    (tmp_path / "small.yaml").write_text(RUN)
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "small.yaml"), "--out", str(run)]) == 0
    assert main(["export-map", str(run)]) == 0
    assert load_occupancy_map(run / "map.yaml").resolution == 0.05
    assert main(["export-map", str(run), "--world", "2", "--resolution", "0.2", "--out", str(tmp_path / "b.png")]) == 0
    assert load_occupancy_map(tmp_path / "b.yaml").resolution == 0.2
    capsys.readouterr()
    for wrong, line in (
        (["--world", "3", "--out", str(tmp_path / "c.yaml")], "no world 2"),
        (["--resolution", "0", "--out", str(tmp_path / "c.yaml")], "above 0"),
        ([], "exists already"),
    ):
        assert main(["export-map", str(run), *wrong]) == 2
        message = capsys.readouterr().err
        assert line in message
        assert message.count("\n") == 1
