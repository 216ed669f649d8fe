"""FARMap's worlds: maps of rooms and corridors, seen through a cone, one at a time or many at once."""

from typing import TYPE_CHECKING

from farl.lazy import exports

if TYPE_CHECKING:
    from farl.envs.map_world.env import MapWorldEnv
    from farl.envs.map_world.generator import SIZES, WorldParameters, WorldSize, generate_world, generate_worlds
    from farl.envs.map_world.loaders import check_map, largest_part, load_grids, load_map, load_maps, map_files
    from farl.envs.map_world.map_server import load_occupancy_map, save_occupancy_map
    from farl.envs.map_world.occupancy import OccupancyGrid
    from farl.envs.map_world.plans import PLANS, Plan, compartments, hairpin
    from farl.envs.map_world.vec_env import MapWorldVecEnv
    from farl.envs.map_world.worlds import MapWorlds

__all__ = [
    "PLANS",
    "SIZES",
    "MapWorldEnv",
    "MapWorldVecEnv",
    "MapWorlds",
    "OccupancyGrid",
    "Plan",
    "WorldParameters",
    "WorldSize",
    "check_map",
    "compartments",
    "generate_world",
    "generate_worlds",
    "hairpin",
    "largest_part",
    "load_grids",
    "load_map",
    "load_maps",
    "load_occupancy_map",
    "map_files",
    "save_occupancy_map",
]

__getattr__ = exports(
    __name__,
    {
        "MapWorldEnv": "farl.envs.map_world.env",
        **dict.fromkeys(
            ("SIZES", "WorldParameters", "WorldSize", "generate_world", "generate_worlds"),
            "farl.envs.map_world.generator",
        ),
        **dict.fromkeys(
            ("check_map", "largest_part", "load_grids", "load_map", "load_maps", "map_files"),
            "farl.envs.map_world.loaders",
        ),
        **dict.fromkeys(("load_occupancy_map", "save_occupancy_map"), "farl.envs.map_world.map_server"),
        "OccupancyGrid": "farl.envs.map_world.occupancy",
        **dict.fromkeys(("PLANS", "Plan", "compartments", "hairpin"), "farl.envs.map_world.plans"),
        "MapWorldVecEnv": "farl.envs.map_world.vec_env",
        "MapWorlds": "farl.envs.map_world.worlds",
    },
)
