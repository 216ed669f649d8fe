"""Recognition: places by their looks, whether they have been visited, and the ways between them."""

from farl.recognition.calibration import Calibration, Thresholds, otsu
from farl.recognition.graph import PlaceGraph
from farl.recognition.guide import Advice, Guide
from farl.recognition.localiser import Localiser, Located
from farl.recognition.places import PlaceStore
from farl.recognition.preference import Preference
from farl.recognition.recall import RegionRecall
from farl.recognition.regions import Regions
from farl.recognition.visits import Visits

__all__ = [
    "Advice",
    "Calibration",
    "Guide",
    "Localiser",
    "Located",
    "PlaceGraph",
    "PlaceStore",
    "Preference",
    "RegionRecall",
    "Regions",
    "Thresholds",
    "Visits",
    "otsu",
]
