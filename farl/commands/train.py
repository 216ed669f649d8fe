"""``farl train`` and ``farl resume``: one run."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farl.commands import add_config, add_run, add_trust, count, table
from farl.errors import FAILED, INTERRUPTED, ConfigError

if TYPE_CHECKING:
    from farl.experiment.run_directory import RunDirectory


def add_train(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl train``."""
    add_config(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME, never an old one)")


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl resume``."""
    add_run(parser)
    add_trust(parser)
    parser.add_argument(
        "--timesteps",
        type=count,
        metavar="N",
        help="train until N timesteps in all (default: as configured); schedules are stretched to N",
    )


def train(options: argparse.Namespace) -> int:
    """Train an agent from a YAML file."""
    from farl.experiment.loading import load_config
    from farl.experiment.sweep.plan import refuse_several

    refuse_several(options.overrides, "train", options.config)
    config = load_config(options.config, options.overrides)
    if config.sweep is not None:
        raise ConfigError(f"{options.config}: has a section sweep; run it with: farl sweep {options.config}")

    from rich.console import Console

    from farl.experiment.progress import make_observer
    from farl.experiment.run import train as start
    from farl.experiment.run_directory import create_run_directory, discard_if_empty

    run = create_run_directory(config.name, options.out)
    console = Console(stderr=True)
    console.print(f"run directory: {run.path}", highlight=False, soft_wrap=True)
    try:
        return finish(run, lambda: start(config, run.path, make_observer(console)))
    finally:
        discard_if_empty(run)


def resume(options: argparse.Namespace) -> int:
    """Go on with a run where it was stopped, as if it never had been."""
    from rich.console import Console

    from farl.experiment.progress import make_observer
    from farl.experiment.run import resume as go_on
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run)
    observer = make_observer(Console(stderr=True))
    return finish(run, lambda: go_on(run.path, options.timesteps, observer, options.trust))


def finish(run: "RunDirectory", work: Callable[[], dict[str, Any]]) -> int:
    """Run the training and end with the summary, or with how to go on."""
    from farl.experiment.failure import TrainingFailed
    from farl.experiment.interruption import TrainingInterrupted

    try:
        metrics = work()
    except TrainingFailed as failure:
        print("error:", "\n".join(failure.lines), file=sys.stderr)
        return FAILED
    except TrainingInterrupted as stop:
        print(f"interrupted after {stop.timesteps:,} timesteps; saved {stop.checkpoint}", file=sys.stderr)
        print(f"go on with: farl resume {run.path}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print(f"ended at once; go on from the latest checkpoint with: farl resume {run.path}", file=sys.stderr)
        return INTERRUPTED
    from rich.console import Console

    from farl.experiment.report import summary_rows

    console = Console()
    console.print(table(f"{metrics['name']}, seed {metrics['seed']}", summary_rows(metrics)))
    from farl.experiment.recording import frame_rate

    paths = {
        "report": run.report_file,
        "pictures": run.exploration if any(run.exploration.glob("*.png")) else None,
        "metrics": run.metrics_file,
        "curves": f"tensorboard --logdir {run.tensorboard}" if run.tensorboard.is_dir() else None,
        "video": f"farl record {run.path}" if frame_rate(run.read_config().environment) is not None else None,
    }
    for name, where in paths.items():
        if where is not None:
            console.print(f"{name + ':':10}{where}", highlight=False, soft_wrap=True)
    return 0
