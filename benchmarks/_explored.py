"""What a run of the study of exploration measures, and the oracle's reward."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import rankdata
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class FirstVisits(VecEnvWrapper):
    """Pays each agent for every true cell that it comes to for the first time in its episode, or in its life where none
    ends, beside what the environment pays.

    :param weight: what a first visit is worth
    """

    def __init__(self, venv: VecEnv, weight: float) -> None:
        super().__init__(venv)
        self.weight = weight
        self.paid: list[npt.NDArray[np.float64]] = []
        """float[E] for each step, what first visits paid since the list was cleared."""
        self._been: BoolArray = np.zeros(0, bool)

    def reset(self) -> Any:
        """Forget where everybody has been."""
        observations = self.venv.reset()
        self._been = np.zeros_like(np.stack(self.venv.get_attr("reachable")))
        return observations

    def step_wait(self) -> Any:
        """Add what first visits pay to the reward."""
        observations, rewards, dones, infos = self.venv.step_wait()
        x, y = np.array([info["position"] for info in infos]).T
        agents = np.arange(len(x))
        first = ~self._been[agents, y, x]
        self._been[agents, y, x] = True
        self._been[dones] = False
        self.paid.append(first.astype(np.float64))
        return observations, rewards + self.weight * first, dones, infos


class Progress(BaseCallback):
    """Follows coverage over training, success where there is a goal, and what the intrinsic reward tells of new cells.

    :param venv: environments that tell positions and ``reachable``
    :param one_map: whether all episodes are in one map
    :param with_goal: whether episodes can succeed
    :param oracle: what pays instead of a curiosity
    """

    def __init__(self, venv: VecEnv, one_map: bool, with_goal: bool, oracle: FirstVisits | None = None) -> None:
        super().__init__()
        self.venv, self.one_map, self.with_goal, self.oracle = venv, one_map, with_goal, oracle
        self.steps_to: dict[float, int | None] = {0.5: None, 0.9: None}
        self.ended, self.reached, self.shares = 0, 0, 0.0
        self.new: list[BoolArray] = []
        """bool[E] for each step of the rollout, which agents came to a cell that nobody had visited."""
        self.beside: list[BoolArray] = []
        """bool[E] for each step of the rollout, which agents came to a cell beside such a one, or to such a one."""
        self.aucs: list[float] = []
        self.known: list[float] = []
        """For each rollout, the share of its steps that came to a cell which somebody had visited."""
        shown = [*(["coverage"] if one_map else []), *(["success"] if with_goal else [])]
        self.curves: dict[str, dict[str, list[float]]] = {
            name: {"x": [], "y": []} for name in [*shown, "episode_coverage"]
        }

    def follow(self) -> None:
        """Begin, where no model does it."""
        self._on_training_start()

    def saw(self, steps: int, dones: Any, infos: Any, ends_rollout: bool) -> None:
        """Take in a step, where no model shows it."""
        self.num_timesteps, self.locals = steps, {"dones": dones, "infos": infos}
        self._on_step()
        if ends_rollout:
            self._on_rollout_end()

    def _on_training_start(self) -> None:
        self.reachable = np.stack(self.venv.get_attr("reachable"))
        self.cells = self.reachable.sum((1, 2))
        """int[n_envs], that can be reached in the present layout of each environment."""
        self.covered = np.zeros_like(self.reachable[0])
        self.visited = np.zeros_like(self.reachable)
        """In the present episode of each environment."""

    def _on_step(self) -> bool:
        infos = self.locals["infos"]
        x, y = np.array([info["position"] for info in infos]).T
        self.visited[np.arange(len(x)), y, x] = True
        if self.one_map:
            unvisited = self.reachable[0] & ~self.covered
            self.new.append(unvisited[y, x])
            self.beside.append(ndimage.binary_dilation(unvisited)[y, x])
        self.covered[y, x] = True
        for share, steps in self.steps_to.items() if self.one_map else ():
            if steps is None and self.coverage() >= share:
                self.steps_to[share] = self.num_timesteps
        for env in np.flatnonzero(self.locals["dones"]):
            self.ended += 1
            self.reached += infos[env]["episode"]["r"] > 0
            self.shares += float(self.visited[env].sum() / self.cells[env])
            self.visited[env] = False
            if not self.one_map:
                self.cells[env] = self.venv.get_attr("reachable", int(env))[0].sum()
        return True

    def coverage(self) -> float:
        """Share of the cells that any agent has visited so far."""
        return float(self.covered.sum() / self.cells[0])

    def _on_rollout_end(self) -> None:
        if self.one_map:
            self._note("coverage", self.coverage())
            self._judge_rewards()
        if self.ended:  # a rollout in which no episode ended says nothing of episodes
            if self.with_goal:
                self._note("success", self.reached / self.ended)
            self._note("episode_coverage", self.shares / self.ended)
        self.ended, self.reached, self.shares = 0, 0, 0.0

    def _judge_rewards(self) -> None:
        new, beside = np.array(self.new), np.array(self.beside)
        self.new, self.beside = [], []
        self.known.append(float(1.0 - new.mean()))
        rewards = self._intrinsic_rewards()
        if rewards is not None and new.any() and (beside & ~new).any():
            self.aucs.append(auc(rewards[beside], new[beside]))

    def _intrinsic_rewards(self) -> npt.NDArray[np.float64] | None:
        """Return what was paid in this rollout, float64[T, E]; None where nothing is."""
        if self.oracle is not None:
            paid, self.oracle.paid = self.oracle.paid, []
            return np.array(paid)
        model: Any = getattr(self, "model", None)  # scripts have none
        if getattr(model, "curiosity", None) is None:
            return None
        model.take_in()
        return np.array([step.intrinsic_reward for step in model.curiosity_steps])

    def _note(self, name: str, value: float) -> None:
        self.curves[name]["x"].append(self.num_timesteps)
        self.curves[name]["y"].append(value)

    def metrics(self) -> dict[str, Any]:
        """Return what was measured, by the names of the benchmark's metrics."""
        means = {name: float(np.mean(curve["y"])) for name, curve in self.curves.items() if curve["y"]}
        found: dict[str, Any] = {
            "success_auc": means.get("success"),
            "episode_coverage": means.get("episode_coverage"),
            "frontier_auc": float(np.mean(self.aucs)) if self.aucs else None,
            "curves": {name: curve for name, curve in self.curves.items() if curve["y"]},
        }
        if self.one_map:
            found |= {"coverage": means["coverage"], "coverage_end": self.coverage()}
            found["known_share"] = float(np.mean(self.known))
            found |= {f"steps_to_{round(100 * share)}": steps for share, steps in self.steps_to.items()}
        return found


def auc(values: npt.NDArray[np.float64], positive: BoolArray) -> float:
    """Return the probability that a positive sample has the larger value, equal ones counted half (Mann and Whitney).

    :param values: float64[N]
    :param positive: bool[N], some and not all
    """
    ranks = rankdata(values)
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))
