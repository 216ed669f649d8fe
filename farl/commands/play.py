"""``farl evaluate`` and ``farl record``: what a trained agent does."""

import argparse
import json
from pathlib import Path

from farl.commands import add_max_steps, add_policy, add_run, count, table


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl evaluate``."""
    add_run(parser)
    parser.add_argument("--episodes", type=count, default=20, metavar="N", help="how many (default: 20)")
    add_max_steps(parser, 30_000)
    add_policy(parser)


def add_record(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``farl record``."""
    add_run(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="x.mp4 or x.gif (default: RUN/recording.mp4)")
    parser.add_argument("--episodes", type=count, default=1, metavar="N", help="how many (default: 1)")
    add_max_steps(parser, 5_000)
    add_policy(parser)


def evaluate(options: argparse.Namespace) -> int:
    """Play episodes with a trained agent."""
    from farl.experiment.files import write_atomically
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run, options.trust)

    from rich.console import Console

    from farl.experiment.evaluation import evaluate as play
    from farl.experiment.progress import episodes_bar

    with episodes_bar(Console(stderr=True), options.episodes) as observe:
        result = play(run, options.episodes, options.deterministic, options.seed, options.max_steps, observe)
    out = run.path / "evaluation.json"
    write_atomically(out, json.dumps(result.as_dict(), indent=2) + "\n")
    rows = {
        "checkpoint": f"{result.timesteps:,} timesteps",
        "episodes": f"{result.episodes:,} ({'deterministic' if result.deterministic else 'stochastic'} policy)",
        "mean return": f"{result.mean.value:.4g}  (95% interval {result.mean.low:.4g} to {result.mean.high:.4g})",
        "interquartile mean": f"{result.iqm.value:.4g}  (95% interval {result.iqm.low:.4g} to {result.iqm.high:.4g})",
        "mean length": f"{sum(result.lengths) / len(result.lengths):,.1f} steps",
    }
    if result.coverage is not None:
        cover = result.coverage
        rows["mean coverage"] = f"{cover.value:.1%}  (95% interval {cover.low:.1%} to {cover.high:.1%})"
    if result.cut:
        rows["cut off"] = (
            f"{result.cut:,} after {options.max_steps:,} steps; their environments played no other (--max-steps)"
        )
    console = Console()
    console.print(table(f"evaluation of {run.path}", rows))
    _say_how_it_acted(options.deterministic, result.deterministic)
    console.print(f"every episode: {out}", highlight=False, soft_wrap=True)
    return 0


def record(options: argparse.Namespace) -> int:
    """Write a video of a trained agent."""
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run, options.trust)
    out = options.out if options.out is not None else _free_recording(run.path)

    from rich.console import Console

    from farl.experiment.progress import episodes_bar
    from farl.experiment.recording import record as film

    with episodes_bar(Console(stderr=True), options.episodes) as observe:
        recorded = film(run, out, options.episodes, options.deterministic, options.seed, options.max_steps, observe)
    covered = [episode.coverage for episode in recorded.episodes if episode.coverage is not None]
    about = f", {sum(covered) / len(covered):.0%} covered" if covered else ""
    cut = any(episode.cut for episode in recorded.episodes)
    about += f", cut off after {options.max_steps:,} steps (--max-steps)" if cut else ""
    print(f"{out}: {recorded.frames:,} frames{about}")
    _say_how_it_acted(options.deterministic, recorded.deterministic)
    return 0


def _say_how_it_acted(asked: bool | None, deterministic: bool) -> None:
    if asked is None and not deterministic:
        print(
            "It acted as in training, where no reward from outside moved it; --deterministic takes likeliest actions."
        )


def _free_recording(folder: Path) -> Path:
    path, number = folder / "recording.mp4", 1
    while path.exists():
        number += 1
        path = folder / f"recording-{number}.mp4"
    return path
