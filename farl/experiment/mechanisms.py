"""What the ``far`` section of a configuration can name."""

from typing import Any

from farl.curiosity import MODULES
from farl.fragmentation import CRITERIA


def describe_mechanisms() -> dict[str, str]:
    """Name of each curiosity module and criterion -> the key it belongs to, and its first line of documentation."""
    rows = {name: f"far.module.name     {_summary(module)}" for name, module in MODULES.items()}
    rows |= {name: f"far.criterion.name  {_summary(criterion)}" for name, criterion in CRITERIA.items()}
    return rows


def _summary(documented: Any) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
