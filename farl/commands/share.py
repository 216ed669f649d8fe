"""``farl export`` and ``farl push``: a trained agent for others."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

EXPORT_EXAMPLES = """\
examples:
  farl export runs/quickstart --out agent        an ordinary SB3 zip, results, a video and a model card
  farl export runs/quickstart --out agent --episodes 100
"""
PUSH_EXAMPLES = """\
examples:
  farl push runs/quickstart me/explorer          exports and uploads; log in first with: hf auth login
  HF_ENDPOINT=https://hub.my.lab farl push runs/quickstart me/explorer --private
"""


def add_export(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Declare the arguments of ``farl export``."""
    parser.add_argument("run", metavar="RUN", help="a run directory, such as runs/quickstart")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    _add_episodes(parser, count)


def add_push(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Declare the arguments of ``farl push``."""
    parser.add_argument("run", metavar="RUN", help="a run directory, such as runs/quickstart")
    parser.add_argument("repository", metavar="REPO", help="user/name on the Hugging Face Hub")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    _add_episodes(parser, count)


def export(options: argparse.Namespace) -> int:
    """Do ``farl export``; returns its exit code."""
    _export(options, options.out)
    return 0


def push(options: argparse.Namespace) -> int:
    """Do ``farl push``; returns its exit code."""
    from farl.experiment.export import push as upload
    from farl.experiment.export import require_login

    require_login()
    with tempfile.TemporaryDirectory() as folder:
        _export(options, Path(folder) / "agent")
        print(upload(Path(folder) / "agent", options.repository, options.private))
    return 0


def _add_episodes(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    parser.add_argument(
        "--episodes", type=count, default=20, metavar="N", help="episodes of the evaluation on the card (default: 20)"
    )


def _export(options: argparse.Namespace, out: Path) -> None:
    from rich.console import Console

    from farl.experiment.export import export as write
    from farl.experiment.run_directory import open_run_directory

    console = Console(stderr=True)
    with console.status("exporting") as status:
        done = write(open_run_directory(options.run), out, options.episodes, lambda line: status.update(line))
    for name, size in done.sizes.items():
        console.print(f"{size / 2**20:9.2f} MiB  {done.folder / name}", highlight=False, soft_wrap=True)
    for note in done.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
