"""An office of one floor, and robots in it."""

import numpy as np

from farl.envs.robot.vec_env import RobotVecEnv
from farl.slam.poses import between


def make_env(office, n_envs=1, **options):
    env = RobotVecEnv(n_envs, maps=office, until_covered=None, max_steps=10**6, **options)
    env.seed(1)
    return env


def errors(agent, env):
    """Metres by which each robot is wrong about where it is."""
    true = between(env.worlds.start, env.worlds.pose)
    return [np.hypot(*(robot.world_pose - at)[:2]) for robot, at in zip(agent.robots, true, strict=True)]
