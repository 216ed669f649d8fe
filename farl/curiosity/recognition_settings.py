"""The settings of recognition, apart from its code: they are read without the compiler that the graph needs."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from farl.curiosity.settings import RNDConfig
from farl.settings import StrictModel

if TYPE_CHECKING:
    from farl.curiosity.module import ActionSpec
    from farl.curiosity.recognition import Recognition

Pays = Literal["auto", "first", "count", "rare", "error"]
Scope = Literal["episode", "life", "all"]


def n_directions(actions: "ActionSpec") -> int:
    """Return how many kinds of actions a graph tells apart: each discrete one, or both ways along each axis."""
    return actions.size if actions.discrete else 2 * actions.size


class GraphConfig(StrictModel):
    """The memory's graph as the way to what is new."""

    gamma: float = Field(0.97, gt=0.0, lt=1.0)
    """By how much a target loses with every hop: nearer to 1, and farther targets are picked."""
    shaping: float = Field(0.1, ge=0.0)
    """Paid for each hop gained on the way to a target; 1 is what a new place is worth."""
    prior: float = Field(3.0, ge=0.0)
    """Start of the weight by which the advised action counts in the policy's logits; it is learnt from there."""


class RecognitionConfig(RNDConfig):
    """First visits to places that are recognised by random features; with a graph of them that leads to new ones."""

    name: Literal["recognition"] = "recognition"  # type: ignore[assignment]
    pays: Pays = "auto"
    """first: 1 at the first visit to a place. count: 1 / sqrt(visits of all). rare: the one times the other. error:
    RND's error at the first visit. auto: first, or rare where layouts are found to differ from episode to episode."""
    scope: Scope = "episode"
    """What a first visit is: an agent's in its episode (its life where none ends), its life, or all agents'
    together."""
    threshold: float | None = Field(None, gt=-1.0, lt=1.0)
    """Cosine similarity from which on two views are of one place; null calibrates it to the noise of the first
    views."""
    calibration: int = Field(2048, ge=2)
    """Samples by which the threshold is calibrated; nothing is paid before."""
    capacity: int = Field(50_000, ge=2)
    """Most places; beyond it the likest ones become one, and nothing is forgotten."""
    resolution: float | None = Field(4e-4, gt=0.0)
    """Fragments are regions of the graph of places, dense within and thinly joined: ways per pair of places above
    which two parts are one region. Smaller, and fragments are larger. Null has one fragment. Without a criterion
    only."""
    graph: GraphConfig | None = None
    """Lead the agents along the graph of places; null leaves it out."""

    def build(self, shape: tuple[int, ...], actions: "ActionSpec", seed: int) -> "Recognition":
        """Make the module."""
        from farl.curiosity.recognition import Recognition

        settings = self.arguments()
        graph = settings.pop("graph")
        led = {} if graph is None else {"shaping": graph.shaping, "gamma": graph.gamma}
        return Recognition(shape, actions, seed=seed, **settings, **led)

    def n_advised(self, actions: "ActionSpec") -> int:
        """Return the number of directions, if there is a graph."""
        return 0 if self.graph is None else n_directions(actions)

    @property
    def has_regions(self) -> bool:
        """Whether a resolution is set."""
        return self.resolution is not None

    @property
    def advice_prior(self) -> float:
        """That of the graph."""
        return 0.0 if self.graph is None else self.graph.prior
