"""``farl export``, ``farl push`` and ``farl export-map``: a trained agent, or its map, for others."""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from farl.commands import add_max_steps, add_run, add_trust, count

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
MAP_EXAMPLES = """\
examples:
  farl export-map runs/farmap_plus                 the map of its first world: map.yaml and map.pgm in the run's folder
  farl export-map runs/farmap_plus --world 2 --out office.yaml --resolution 0.1
  ros2 run nav2_map_server map_server --ros-args -p yaml_filename:=office.yaml
"""


def add_export(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl export``."""
    add_run(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    add_trust(parser)
    _add_evaluation(parser)


def add_push(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl push``."""
    add_run(parser)
    parser.add_argument("repository", metavar="REPO", help="user/name on the Hugging Face Hub")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    add_trust(parser)
    _add_evaluation(parser)


def add_export_map(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl export-map``."""
    parser.add_argument("run", metavar="RUN", help="a run directory of an agent that builds maps, such as runs/robot")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="x.yaml, with x.pgm beside it, or x.png (default: RUN/map.yaml)"
    )
    parser.add_argument("--world", type=count, default=1, metavar="N", help="which of its worlds (default: 1)")
    parser.add_argument(
        "--resolution", type=float, metavar="M", help="metres a cell (default: the world's, or 0.05 if it has none)"
    )
    add_trust(parser)


def export_map(options: argparse.Namespace) -> int:
    """Write the map that an agent built, as ROS reads it."""
    from farl.experiment.export import export_map as write
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run, options.trust)
    out = options.out if options.out is not None else run.path / "map.yaml"
    print(write(run, out, options.world - 1, options.resolution))
    return 0


def export(options: argparse.Namespace) -> int:
    """Write a trained agent for others to use."""
    _export(options, options.out)
    return 0


def push(options: argparse.Namespace) -> int:
    """Upload a trained agent to the Hugging Face Hub."""
    from farl.experiment.export import push as upload
    from farl.experiment.export import require_login

    require_login()
    with tempfile.TemporaryDirectory() as folder:
        _export(options, Path(folder) / "agent")
        print(upload(Path(folder) / "agent", options.repository, options.private))
    return 0


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--episodes", type=count, default=20, metavar="N", help="episodes of the evaluation on the card (default: 20)"
    )
    add_max_steps(parser, 10_000)


def _export(options: argparse.Namespace, out: Path) -> None:
    from rich.console import Console

    from farl.experiment.export import export as write
    from farl.experiment.progress import episodes_bar
    from farl.experiment.run_directory import open_run_directory

    console = Console(stderr=True)
    done = write(
        open_run_directory(options.run, options.trust),
        out,
        options.episodes,
        options.max_steps,
        partial(console.print, highlight=False, soft_wrap=True),
        partial(episodes_bar, console),
    )
    for name, size in done.sizes.items():
        console.print(f"{size / 2**20:9.2f} MiB  {done.folder / name}", highlight=False, soft_wrap=True)
    for note in done.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)
