"""FARL's environments. Importing this package registers them with Gymnasium (see ``farl.envs.registry``)."""

from farl.envs.registry import FAMILIES, list_envs, register

__all__ = ["list_envs"]

for _family in FAMILIES:
    register(_family)
