"""The commands for many runs: ``sweep``, ``compare``, ``export``, ``push``. Heavy imports wait until one is used."""

import argparse

__all__ = ["add_trust"]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Declare the option that reading a model's pickles needs."""
    parser.add_argument(
        "--trust", action="store_true", help="read pickled objects in the model's file, which can run any code"
    )
