"""Fragmentation and recall: what is seen, what ends a fragment, what recognises one, and the router between them."""

from typing import TYPE_CHECKING

from farl.lazy import exports

if TYPE_CHECKING:
    from farl.fragmentation.criteria import CRITERIA, CUSUM, Criterion, Quantile, Random, Ratio, Uniform, ZScore
    from farl.fragmentation.recall import KeyRecall, NoRecall, PlaceRecall, Recall, Recognition
    from farl.fragmentation.router import Events, FragmentationAndRecall, Proposal
    from farl.fragmentation.sight import Sight
    from farl.fragmentation.statistics import Moments, SurprisalStatistics

__all__ = [
    "CRITERIA",
    "CUSUM",
    "Criterion",
    "Events",
    "FragmentationAndRecall",
    "KeyRecall",
    "Moments",
    "NoRecall",
    "PlaceRecall",
    "Proposal",
    "Quantile",
    "Random",
    "Ratio",
    "Recall",
    "Recognition",
    "Sight",
    "SurprisalStatistics",
    "Uniform",
    "ZScore",
]

__getattr__ = exports(
    __name__,
    {
        **dict.fromkeys(
            ("CRITERIA", "CUSUM", "Criterion", "Quantile", "Random", "Ratio", "Uniform", "ZScore"),
            "farl.fragmentation.criteria",
        ),
        **dict.fromkeys(("KeyRecall", "NoRecall", "PlaceRecall", "Recall", "Recognition"), "farl.fragmentation.recall"),
        **dict.fromkeys(("Events", "FragmentationAndRecall", "Proposal"), "farl.fragmentation.router"),
        "Sight": "farl.fragmentation.sight",
        **dict.fromkeys(("Moments", "SurprisalStatistics"), "farl.fragmentation.statistics"),
    },
)
