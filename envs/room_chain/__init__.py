"""Chains and grids of rooms that look alike or not, one at a time or many at once, as table look-ups."""

from typing import TYPE_CHECKING

from farl.lazy import exports

if TYPE_CHECKING:
    from farl.envs.room_chain.env import RoomChainEnv
    from farl.envs.room_chain.layout import Look, RoomChain
    from farl.envs.room_chain.vec_env import RoomChainVecEnv

__all__ = ["Look", "RoomChain", "RoomChainEnv", "RoomChainVecEnv"]

__getattr__ = exports(
    __name__,
    {
        "RoomChainEnv": "farl.envs.room_chain.env",
        **dict.fromkeys(("Look", "RoomChain"), "farl.envs.room_chain.layout"),
        "RoomChainVecEnv": "farl.envs.room_chain.vec_env",
    },
)
