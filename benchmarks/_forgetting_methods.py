"""The methods of the forgetting study: settings of ``FARConfig`` that differ in one thing, and three references."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from farl.curiosity import ActionSpec, FARCuriosity
from farl.curiosity.module import Predictor, Prepared
from farl.curiosity.rnd import RND
from farl.curiosity.settings import RNDConfig
from farl.curiosity.stacked import stacked_forward
from farl.envs.room_chain.layout import VIEW_WIDTH
from farl.fragmentation import NoRecall, Recognition, Sight
from farl.sb3.build import build_curiosity
from farl.sb3.config import FARConfig

IntArray = npt.NDArray[np.int64]

FEATURES, HIDDEN = 64, 128
REPLAYED = 2_000

_MODULE: dict[str, Any] = {"module": {"name": "rnd", "features": FEATURES, "hidden": HIDDEN}, "epochs": 4}
_ONE = _MODULE | {"criterion": None, "recall": None}
_FAR = _MODULE | {
    "criterion": {"name": "cusum"},
    "recall": {"threshold": 0.97, "keys": "places"},
    "join_within": 100,
    "memory": {"keys_per_fragment": 256},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "rnd": _ONE,
    "far": _FAR,
    "far-replay": _FAR | {"replay": REPLAYED},
    "far-norecall": _FAR | {"recall": None},
    "rnd-replay": _ONE | {"replay": REPLAYED},
    "rnd-wide": _ONE,
    "ensemble": _ONE,
    "oracle": _ONE,
}


ACTIONS = ActionSpec(3, discrete=True)


def make_curiosity(
    method: str, n_envs: int, n_rooms: int, learning_rate: float, seed: int, modules: int = 1
) -> FARCuriosity:
    """Build the curiosity of a method.

    :param n_envs: number of walkers
    :param n_rooms: number of rooms in the world, for the oracle
    :param modules: number of FAR's modules; ``rnd-wide`` and ``ensemble`` get as many weights as they have together
    """
    config = FARConfig.model_validate(SETTINGS[method] | {"learning_rate": learning_rate})
    if method in ("rnd-wide", "ensemble"):
        kind = _WideRND if method == "rnd-wide" else _EnsembleRND
        config = config.model_copy(update={"module": kind(features=FEATURES, hidden=HIDDEN, modules=modules)})
    curiosity = build_curiosity(config, (VIEW_WIDTH,), ACTIONS, n_envs, "cpu", seed)
    if method == "oracle":
        for _ in range(n_rooms - 1):
            curiosity.memory.add(curiosity.modules.bank.initial_state())
        curiosity.router.recall, curiosity.confirm_recall = _RoomNumbers(), False
    return curiosity


class _RoomNumbers(NoRecall):
    """Routes by the number of the room, which it is told: fragment i belongs to room i."""

    def recognise(self, sight: Sight, active: IntArray, envs: IntArray) -> Recognition:
        assert sight.position is not None
        rooms = sight.position[envs, 0]
        return Recognition(np.where(rooms == active[envs], -1, rooms))


class _WideRND(RNDConfig):
    """One predictor with as many weights as so many modules; the target stays as it is."""

    modules: int = 1

    def build(self, shape: tuple[int, ...], actions: ActionSpec, seed: int) -> RND:
        module = RND(shape, self.features, self.hidden, seed=seed)
        wanted = self.modules * sum(tensor.numel() for tensor in module.predictor.parameters())
        widths = np.arange(self.hidden, 40 * self.hidden, 8)
        weights = (shape[0] + 1) * widths + 2 * (widths + 1) * widths + (widths + 1) * self.features
        width = int(widths[np.abs(weights - wanted).argmin()])
        module.predictor = RND(shape, self.features, width, seed=seed).predictor
        return module


class _EnsembleRND(RNDConfig):
    """So many predictors, each trained on everything; the surprisal is the error of their mean."""

    modules: int = 1

    def build(self, shape: tuple[int, ...], actions: ActionSpec, seed: int) -> RND:
        members = [RND(shape, self.features, self.hidden, seed=seed + 1000 * i).predictor for i in range(self.modules)]
        module = _Ensemble(shape, self.features, self.hidden, seed=seed)
        module.predictor = _Members(members)
        module.requires_grad_(False)
        return module


class _Ensemble(RND):
    takes_stacked_samples = False

    def surprisal(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        error: Tensor = (predictor(prepared["inputs"]).mean(dim=0) - prepared["features"]).square().mean(dim=-1)
        return error

    def loss(self, predictor: Predictor, prepared: Prepared) -> Tensor:
        error: Tensor = (predictor(prepared["inputs"]) - prepared["features"]).square().mean(dim=-1)
        return error.sum(dim=0)


class _Members(nn.Module):
    """Several networks of one form in one batched product a layer."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        forward = stacked_forward(networks[0])
        assert forward is not None
        self._forward = forward
        self._names = [name for name, _ in networks[0].named_parameters()]
        rows = zip(*(network.parameters() for network in networks), strict=True)
        self.stacks = nn.ParameterList(nn.Parameter(torch.stack(row), requires_grad=False) for row in rows)

    def forward(self, inputs: Tensor) -> Tensor:
        """float32[B, d] -> float32[members, B, features]."""
        named = dict(zip(self._names, self.stacks, strict=True))
        return self._forward(named, inputs.expand(len(self.stacks[0]), *inputs.shape))
