"""The commands, and the arguments that several have. Heavy imports wait until one is used."""

import argparse
from typing import Any

__all__ = ["add_config", "add_max_steps", "add_policy", "add_run", "add_trust", "count", "seed", "table"]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare the option that reading a model's pickles needs."""
    parser.add_argument(
        "--trust", action="store_true", help="read pickled objects in the model's file, which can run any code"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name a configuration and change it."""
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or a name from: farl list configs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a setting, such as far.module=rnd")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names a run."""
    parser.add_argument("run", metavar="RUN", help="a run directory, such as runs/quickstart")


def add_max_steps(parser: argparse.ArgumentParser, usual: int) -> None:
    """Declare where episodes are cut off."""
    parser.add_argument(
        "--max-steps",
        type=count,
        default=usual,
        metavar="N",
        help=f"cut off an episode that has not ended after N steps (default: {usual})",
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Declare how a trained agent acts."""
    add_trust(parser)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--deterministic",
        action="store_true",
        default=None,
        help="take the most likely action (default where training brought reward)",
    )
    choice.add_argument(
        "--stochastic",
        dest="deterministic",
        action="store_false",
        default=None,
        help="sample the actions as in training (default where it brought none)",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of episodes and actions (default: 0)")


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    return _whole(text, 1, 10**12)


def seed(text: str) -> int:
    """Read a seed."""
    return _whole(text, 0, 2**32 - 1)


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
    if not least <= number <= most or number != int(number):
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most:,}, found {text}")
    return int(number)


def table(title: str, rows: dict[str, str]) -> Any:
    """Return a table of names and what stands beside them, for a console."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", show_header=False)
    made.add_column(style="bold")
    made.add_column()
    for name, value in rows.items():
        made.add_row(name, value)
    return made
