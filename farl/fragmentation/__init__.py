"""Fragmentation and recall: surprisal statistics, criteria, recall strategies, and the controller that joins them."""

from farl.fragmentation.controller import Events, FragmentationAndRecall
from farl.fragmentation.criteria import CRITERIA, Criterion, Quantile, Random, Ratio, Uniform, ZScore
from farl.fragmentation.recall import KeyRecall, NoRecall, Recall
from farl.fragmentation.statistics import Moments, SurprisalStatistics

__all__ = [
    "CRITERIA",
    "Criterion",
    "Events",
    "FragmentationAndRecall",
    "KeyRecall",
    "Moments",
    "NoRecall",
    "Quantile",
    "Random",
    "Ratio",
    "Recall",
    "SurprisalStatistics",
    "Uniform",
    "ZScore",
]
