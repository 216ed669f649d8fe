"""The section ``sweep`` of a YAML file, and how its parts are written on a command line."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from farl.errors import ConfigError
from farl.settings import StrictModel

MOST_SEEDS = 10_000
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


def parse_seeds(text: str, name: str = "--seeds") -> list[int]:
    """Read ``"0-4"`` or ``"0,3,7-9"``.

    :param text: Single seeds and ranges, separated by commas.
    :param name: What errors call it.
    :raises ConfigError: it is something else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError(f"{name} {text}: write single seeds or ranges, such as 0-4 or 0,3,7-9")
        chosen = range(int(first), int(last or first) + 1)
        if len(chosen) > MOST_SEEDS or chosen.stop > 2**32:
            raise ConfigError(f"{name} {text}: at most {MOST_SEEDS:,} seeds below 2^32")
        seeds.extend(chosen)
    return sorted(set(seeds))


def split_values(text: str) -> list[str]:
    """Split ``"2,4,[8, 8]"`` at the commas that stand outside of brackets and quotes."""
    parts, closing, quote = [""], list[str](), ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _BRACKETS:
            closing.append(_BRACKETS[letter])
        elif closing and letter == closing[-1]:
            closing.pop()
        elif letter == "," and not closing:
            parts.append("")
            continue
        parts[-1] += letter
    return [part.strip() for part in parts]


def _seeds(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    return parse_seeds(str(value), "seeds") if isinstance(value, str | int) else value


def _space(value: Any) -> Any:
    return {"choice": value} if isinstance(value, list) else value


class SearchSpace(StrictModel):
    """Where one setting is searched: one of ``log``, ``uniform``, ``integer`` and ``choice``."""

    log: tuple[float, float] | None = None
    """Smallest and largest value, uniform on a logarithmic scale."""
    uniform: tuple[float, float] | None = None
    """Smallest and largest value, uniform."""
    integer: tuple[int, int] | None = None
    """Smallest and largest whole number."""
    choice: Annotated[list[Any], Field(min_length=1)] | None = None
    """The values to choose from; a plain list means this."""

    @model_validator(mode="after")
    def _one_kind(self) -> "SearchSpace":
        given = [name for name in ("log", "uniform", "integer", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "write one of {log: [low, high]}, {uniform: [low, high]}, {integer: [low, high]}, [a, b, c]"
            )
        bounds = self.log or self.uniform or self.integer
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"the smallest value comes first, found {list(bounds)}")
        if self.log is not None and self.log[0] <= 0:
            raise ValueError(f"a logarithmic scale starts above 0, found {self.log[0]}")
        return self


class SweepConfig(StrictModel):
    """What differs between the runs of ``farl sweep``; its options of the same names come first."""

    seeds: (
        Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1), BeforeValidator(_seeds)] | None
    ) = None
    """Seeds of the runs: a list, or text such as ``0-4``. null is the one seed of the configuration."""
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    """Setting, such as far.criterion.threshold -> its values; every combination is run."""
    search: dict[str, Annotated[SearchSpace, BeforeValidator(_space)]] = Field(default_factory=dict)
    """Setting -> where ``farl sweep --optuna`` and ``--pbt`` look for its best value."""
    metric: str = "auto"
    """What a search maximises: coverage, evaluation_return, return, or any number in metrics.json. auto: the return
    of the evaluation where there is one, else coverage where it is known, else the return."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether the metric should be large or small."""
