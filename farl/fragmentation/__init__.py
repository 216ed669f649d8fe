"""Fragmentation and recall: surprisal statistics, criteria, recall strategies, and the controller that joins them."""

from farl.fragmentation.controller import Events, FragmentationAndRecall
from farl.fragmentation.criteria import CRITERIA, CUSUM, Criterion, Quantile, Random, Ratio, Uniform, ZScore
from farl.fragmentation.recall import KeyRecall, NoRecall, PlaceRecall, Recall
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
    "Quantile",
    "Random",
    "Ratio",
    "Recall",
    "SurprisalStatistics",
    "Uniform",
    "ZScore",
]
