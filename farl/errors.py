"""The error that a user can fix, and the "did you mean" that goes with it."""

import difflib
from collections.abc import Iterable, Sequence

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes."""
MOST_PROBLEMS = 20
"""Problems that are told at once."""


class ConfigError(ValueError):
    """One or more problems with what the user gave: a configuration, a path, a checkpoint, a name.

    Each problem is one line that says what is wrong and how to fix it. The command line prints them without a
    traceback and exits with code 2. Of many problems the first 20 are told, and how many more there are.
    """

    def __init__(self, *problems: str) -> None:
        if len(problems) > MOST_PROBLEMS + 1:
            problems = (*problems[:MOST_PROBLEMS], f"and {len(problems) - MOST_PROBLEMS:,} more problems")
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[str, ...]]:
        # Errors cross process borders in benchmarks and sweeps.
        return type(self), tuple(self.problems)


def did_you_mean(name: str, known: Iterable[str], limit: int = 8) -> str:
    """A hint that ends an error message: the nearest known names, or all of them when there are few.

    Starts with ``"; "`` and is empty when nothing helps.
    """
    choices = sorted({str(choice) for choice in known})
    by_lowercase = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lowercase, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(by_lowercase[match] for match in near)}?"
    if 0 < len(choices) <= limit:
        return f"; known: {', '.join(choices)}"
    return ""
