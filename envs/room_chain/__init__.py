"""Chains and grids of rooms that look alike or not, one at a time or many at once, as table look-ups."""

from farl.envs.room_chain.env import RoomChainEnv
from farl.envs.room_chain.layout import Look, RoomChain
from farl.envs.room_chain.vec_env import RoomChainVecEnv

__all__ = ["Look", "RoomChain", "RoomChainEnv", "RoomChainVecEnv"]
