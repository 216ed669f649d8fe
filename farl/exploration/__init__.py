"""What is recorded of an exploration, in bounded memory, and handed to ``farl.figures`` as plain arrays."""

from farl.exploration.cells import CellStatistics
from farl.exploration.episodes import Episodes
from farl.exploration.fragments import FragmentUse
from farl.exploration.particles import ParticleHistory
from farl.exploration.plane import ObservationSample
from farl.exploration.record import Block, ExplorationRecord, NewEpisode, WaitingStep
from farl.exploration.trace import SurprisalTrace
from farl.exploration.visits import VisitCounts

__all__ = [
    "Block",
    "CellStatistics",
    "Episodes",
    "ExplorationRecord",
    "FragmentUse",
    "NewEpisode",
    "ObservationSample",
    "ParticleHistory",
    "SurprisalTrace",
    "VisitCounts",
    "WaitingStep",
]  # fmt: skip
