"""Monte Carlo localisation in an occupancy map: a cloud of poses, moved by the odometry and weighed by scans.

The likelihood of an echo is that expected over whether it can be trusted: of the likelihood field (Thrun, Burgard and
Fox, "Probabilistic Robotics", 2005, section 6.4) with most of the probability, of anything else with the rest. Echoes
of one scan err alike, for they are compared with one map: together they count as few independent ones.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from farl.maps.compiled import compiled
from farl.particles import SE2, BootstrapFilter, LikelihoodObservation
from farl.slam.matching import LEAST_ECHOES, nearness
from farl.slam.occupancy import Canvas
from farl.slam.poses import between

FloatArray = npt.NDArray[np.float64]

_SPACE = SE2()
_WRONG = 0.1  # share of the echoes that tell nothing of the map
_COUNT = 40.0  # independent echoes that a scan's stand for
_NOISE = torch.tensor([0.02, 0.02, 0.01], dtype=torch.float64)  # of a step, metres and radians: see `_SHARE`, too
_SHARE = 0.1  # of the way and of the turn by which they may be off


class Cloud:
    """Particles of where a robot is in a map.

    :param pose: float64[3], about where it is
    :param covariance: float64[3, 3], of that pose
    :param particles: how many
    :param generator: source of randomness
    """

    def __init__(self, pose: FloatArray, covariance: FloatArray, particles: int, generator: torch.Generator) -> None:
        root = torch.from_numpy(np.linalg.cholesky(_turned(covariance, -pose[2])))
        steps = torch.randn(particles, 3, generator=generator, dtype=torch.float64) @ root.T
        cloud = _SPACE.retract(torch.from_numpy(pose.copy()), steps)
        self.filter = BootstrapFilter(cloud, generator, impossible="keep", manifold=_SPACE)
        self._at = pose.copy()

    def follow(
        self, pose: FloatArray, canvas: Canvas, scan: Any, angles: FloatArray, furthest: float
    ) -> tuple[FloatArray, FloatArray]:
        """Move by what the odometry told since the last scan, weigh by a scan; return mean pose and covariance.

        :param pose: float64[3], the last mean pose, moved by the odometry
        :param canvas: the map
        :param scan: float32[B], metres; 0 is no reading, ``furthest`` no echo
        :param angles: float64[B], of the beams
        :param furthest: metres, range of the lidar
        :return: float64[3] and float64[3, 3], in the map's frame
        """
        step = torch.from_numpy(between(self._at, pose))
        way, turn = float(step[:2].norm()), abs(float(step[2]))
        spread = _NOISE + _SHARE * torch.tensor([way, way, turn + 0.3 * way], dtype=torch.float64)

        def moved(states: Tensor, generator: torch.Generator) -> Tensor:
            drawn = torch.randn(states.shape, generator=generator, dtype=states.dtype)
            return _SPACE.retract(states, step + spread * drawn)

        self.filter.predict(moved)
        echo = (scan > 0.0) & (scan < furthest)
        if echo.sum() >= LEAST_ECHOES:
            canvas.make_room(pose, furthest + 1.0)
            field = nearness(canvas, pose, furthest + 1.0)
            points = np.stack([scan[echo] * np.cos(angles[echo]), scan[echo] * np.sin(angles[echo])], axis=1)
            corner, size = canvas.corner.astype(np.float64), canvas.resolution

            def loss(states: Tensor) -> Tensor:
                return torch.from_numpy(_losses(field, points.astype(np.float64), states.numpy(), corner, size))

            self.filter.update(LikelihoodObservation(loss))
        mean, covariance = (each.numpy() for each in self.filter.moments())
        self._at = mean.copy()
        return mean.copy(), _turned(covariance, mean[2]) + 1e-8 * np.eye(3)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the particles, their weights, and where they were last."""
        return {
            "particles": self.filter.particles.clone(),
            "log_weights": self.filter.log_weights.clone(),
            "at": torch.from_numpy(self._at.copy()),
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], generator: torch.Generator) -> "Cloud":
        """A cloud as it was saved; the generator's state is its owner's."""
        cloud = cls.__new__(cls)
        cloud.filter = BootstrapFilter(state["particles"].cpu(), generator, impossible="keep", manifold=_SPACE)
        cloud.filter.log_weights = state["log_weights"].cpu().clone()
        cloud._at = state["at"].cpu().numpy().copy()
        return cloud


def _turned(covariance: FloatArray, angle: float) -> FloatArray:
    """A pose's covariance in axes turned by an angle."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turn @ covariance @ turn.T)


@compiled
def _losses(field: Any, points: Any, poses: Any, corner: Any, resolution: float) -> Any:
    """Negative log-likelihood of the echoes at each of some poses, float64[n]."""
    height, width = field.shape
    found = np.zeros(len(poses))
    for n in range(len(poses)):
        cos, sin = math.cos(poses[n, 2]), math.sin(poses[n, 2])
        for k in range(len(points)):
            x = poses[n, 0] + cos * points[k, 0] - sin * points[k, 1]
            y = poses[n, 1] + sin * points[k, 0] + cos * points[k, 1]
            col, row = math.floor(x / resolution - corner[1]), math.floor(y / resolution - corner[0])
            near = 0.0
            if 0 <= row < height and 0 <= col < width:
                near = field[row, col]
            found[n] -= math.log(_WRONG + (1.0 - _WRONG) * near)
    return found * (min(len(points), _COUNT) / len(points))
