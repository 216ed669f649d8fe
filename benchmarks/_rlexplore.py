"""One timed run of RLeXplore's RND on SB3's PPO, for ``benchmarks.overhead``, in a Python that has both it and FARL.

Prints one line of JSON. The callback does what RLeXplore's notebook on Stable-Baselines3 does: the bonus of a whole
rollout is computed at once, at its end, and added to advantages and returns.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

import torch
from rllte.xplore.reward import RND
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks.overhead import BATCH_SIZE, make_env, ppo_settings, timed


class Bonus(BaseCallback):
    """Adds RLeXplore's intrinsic rewards to what PPO learns from."""

    def __init__(self, rnd: Any) -> None:
        super().__init__()
        self.rnd = rnd

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer: Any = self.model.rollout_buffer  # type: ignore[attr-defined]
        seen = torch.as_tensor(buffer.observations).float()  # its norm cannot average bytes
        following = torch.cat([seen[1:], torch.as_tensor(self.locals["new_obs"])[None].float()])
        ends = torch.as_tensor(buffer.episode_starts)
        samples = {
            "observations": seen,
            "actions": torch.as_tensor(buffer.actions),
            "rewards": torch.as_tensor(buffer.rewards),
            "terminateds": ends,
            "truncateds": ends,
            "next_observations": following,
        }
        bonus = self.rnd.compute(samples, sync=True).numpy()
        buffer.advantages += bonus
        buffer.returns += bonus


def run(condition: str, seed: int, steps: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    venv = make_env(condition, seed)
    policy, settings = ppo_settings(condition)
    rnd = RND(venv, device="cpu", batch_size=BATCH_SIZE)
    model = PPO(policy, venv, seed=seed, device="cpu", **settings)
    result = timed(model, settings["n_steps"] * venv.num_envs, steps, callback=Bonus(rnd))
    versions = {name: version(name) for name in ("rllte-core", "stable-baselines3", "torch")}
    return result | {"versions": versions, "parameters": sum(part.numel() for part in rnd.predictor.parameters())}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
