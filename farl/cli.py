"""The ``farl`` command. Heavy imports wait until a command needs them, so that ``farl --help`` is quick."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import farl
from farl.commands import add_trust
from farl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from farl.experiment.run_directory import RunDirectory

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

_EXAMPLES = """\
examples:
  farl list configs                                what can be run right away
  farl train quickstart                            train; everything lands in runs/quickstart
  farl train quickstart seed=3 far.module.graph.prior=1
                                                   the same with other values
  farl train my.yaml --out results/first           your own experiment, your own place
  farl resume runs/quickstart                      go on after Ctrl-C or a crash
  farl evaluate runs/quickstart --episodes 100     mean and interquartile mean of the return, with intervals
  farl record runs/quickstart --out agent.gif      a video of the agent
  farl sweep quickstart --seeds 0-4                five seeds at once
  farl compare runs/quickstart                     what they came to, with intervals
  farl watch runs/quickstart                       how it goes, in the terminal
  farl report runs/quickstart*                     one page about several runs
  tensorboard --logdir runs                        curves and pictures in the browser, while it runs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 bad input, 128 + n ended by the
    signal n (130 is Ctrl-C)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parse(given)
        return int(options.command(options))
    except ConfigError as error:
        for problem in error.problems:
            print("error:", " ".join(problem.split()), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as head, has seen enough. Python would complain again on closing stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("CONFIG, key=value", "CONFIG")  # overrides are optional
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser, commands = _parsers()
    if not arguments:
        parser.print_help()
        parser.exit(BAD_INPUT)
    if not arguments[0].startswith("-") and arguments[0] not in commands:
        raise ConfigError(f"unknown command {arguments[0]!r}{did_you_mean(arguments[0], commands)}; see farl --help")
    options, rest = parser.parse_known_args(arguments)
    # argparse takes overrides only in one block; they may stand anywhere after CONFIG.
    overrides = [word for word in rest if "=" in word and not word.startswith("-")]
    unknown = [word for word in rest if word not in overrides]
    if unknown or (overrides and not hasattr(options, "overrides")):
        raise ConfigError(f"unknown argument {(unknown or overrides)[0]!r}; see farl {arguments[0]} --help")
    if overrides:
        options.overrides += overrides
    return options


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = _Parser(
        prog="farl",
        description="Train agents with fragmentation and recall, from YAML.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"farl {farl.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    parsers: dict[str, argparse.ArgumentParser] = {}

    def add(name: str, command: Any, help_text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=help_text,
            description=f"{help_text[0].upper()}{help_text[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        parsers[name] = sub
        return sub

    train = add("train", _train, "train an agent from a YAML file", "farl train quickstart seed=3 total_timesteps=1e5")
    _add_config(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME, never an old one)")

    evaluate = add("evaluate", _evaluate, "play episodes with a trained agent", "farl evaluate runs/quickstart")
    _add_run(evaluate)
    evaluate.add_argument("--episodes", type=_count, default=20, metavar="N", help="how many (default: 20)")
    evaluate.add_argument(
        "--max-steps",
        type=_count,
        default=30_000,
        metavar="N",
        help="cut off an episode that has not ended after N steps (default: 30000)",
    )
    _add_policy(evaluate)

    resume = add(
        "resume",
        _resume,
        "go on with a run where it was stopped, as if it never had been",
        "farl resume runs/quickstart",
    )
    _add_run(resume)
    add_trust(resume)
    resume.add_argument(
        "--timesteps",
        type=_count,
        metavar="N",
        help="train until N timesteps in all (default: as configured); schedules are stretched to N",
    )

    record = add("record", _record, "write a video of a trained agent", "farl record runs/quickstart --out agent.gif")
    _add_run(record)
    record.add_argument("--out", type=Path, metavar="FILE", help="x.mp4 or x.gif (default: RUN/recording.mp4)")
    record.add_argument("--episodes", type=_count, default=1, metavar="N", help="how many (default: 1)")
    _add_policy(record)

    from farl.commands import compare, share, sweep

    many = add(
        "sweep", sweep.run, "run seeds, grids and searches, and continue them", "farl sweep quickstart --seeds 0-4"
    )
    many.epilog = sweep.EXAMPLES
    sweep.add_arguments(many, _count)

    beside = add("compare", compare.run, "compare runs, with intervals", "farl compare runs/quickstart")
    beside.epilog = compare.EXAMPLES
    compare.add_arguments(beside)

    out = add(
        "export", share.export, "write a trained agent for others to use", "farl export runs/quickstart --out agent"
    )
    out.epilog = share.EXPORT_EXAMPLES
    share.add_export(out, _count)

    plan = add("export-map", share.export_map, "write the map that an agent built, as ROS reads it", "")
    plan.epilog = share.MAP_EXAMPLES
    share.add_export_map(plan, _count)

    hub = add(
        "push", share.push, "upload a trained agent to the Hugging Face Hub", "farl push runs/quickstart me/agent"
    )
    hub.epilog = share.PUSH_EXAMPLES
    share.add_push(hub, _count)

    watch = add("watch", _watch, "show in the terminal how a run goes, while it goes or later", "farl watch quickstart")
    _add_run(watch)
    watch.add_argument("--once", action="store_true", help="print how things stand now, and end")

    report = add(
        "report",
        _report,
        "write the page about a run anew, or one page about several",
        "farl report runs/quickstart runs/quickstart-2 --out both.html",
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="run directories, such as runs/quickstart")
    report.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html, or runs.html)")

    listing = add("list", _list, "print what can be named in YAML", "farl list envs | grep MiniGrid")
    listing.add_argument("what", choices=tuple(_LISTS), help="what to list")

    validate = add("validate", _validate, "check a YAML file and train nothing", "farl validate my.yaml seed=3")
    _add_config(validate)

    add("schema", _schema, "print the JSON Schema of YAML files, for editors", "farl schema > schema.json")
    return parser, parsers


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or a name from: farl list configs")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="change a setting, such as far.module=rnd")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory, such as runs/quickstart")


def _add_policy(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of episodes and actions (default: 0)")


def _count(text: str) -> int:
    return _whole(text, 1, 10**12)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**32 - 1)


def _whole(text: str, least: int, most: int) -> int:
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}") from None
    if not least <= number <= most or number != int(number):
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most:,}, found {text}")
    return int(number)


def _train(options: argparse.Namespace) -> int:
    from farl.experiment.loading import load_config
    from farl.experiment.sweep.plan import refuse_several

    refuse_several(options.overrides, "train", options.config)
    config = load_config(options.config, options.overrides)
    if config.sweep is not None:
        raise ConfigError(f"{options.config}: has a section sweep; run it with: farl sweep {options.config}")

    from rich.console import Console

    from farl.experiment.progress import make_observer
    from farl.experiment.run import train
    from farl.experiment.run_directory import create_run_directory, discard_if_empty

    run = create_run_directory(config.name, options.out)
    console = Console(stderr=True)
    console.print(f"run directory: {run.path}", highlight=False, soft_wrap=True)
    try:
        return _finish(run, lambda: train(config, run.path, make_observer(console)))
    finally:
        discard_if_empty(run)


def _resume(options: argparse.Namespace) -> int:
    from rich.console import Console

    from farl.experiment.progress import make_observer
    from farl.experiment.run import resume
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run)
    observer = make_observer(Console(stderr=True))
    return _finish(run, lambda: resume(run.path, options.timesteps, observer, options.trust))


def _finish(run: "RunDirectory", work: Any) -> int:
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
    console.print(_table(f"{metrics['name']}, seed {metrics['seed']}", summary_rows(metrics)))
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


def _evaluate(options: argparse.Namespace) -> int:
    from farl.experiment.files import write_atomically
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run, options.trust)

    from rich.console import Console

    from farl.experiment.evaluation import evaluate
    from farl.experiment.progress import episodes_bar

    with episodes_bar(Console(stderr=True), options.episodes) as observe:
        result = evaluate(run, options.episodes, options.deterministic, options.seed, options.max_steps, observe)
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
    console.print(_table(f"evaluation of {run.path}", rows))
    _say_how_it_acted(options.deterministic, result.deterministic)
    console.print(f"every episode: {out}", highlight=False, soft_wrap=True)
    return 0


def _record(options: argparse.Namespace) -> int:
    from farl.experiment.run_directory import open_run_directory

    run = open_run_directory(options.run, options.trust)
    out = options.out if options.out is not None else _free_recording(run.path)

    from farl.experiment.recording import record

    recorded = record(run, out, options.episodes, options.deterministic, options.seed)
    covered = [episode.coverage for episode in recorded.episodes if episode.coverage is not None]
    about = f", {sum(covered) / len(covered):.0%} covered" if covered else ""
    print(f"{out}: {recorded.frames:,} frames{about}")
    _say_how_it_acted(options.deterministic, recorded.deterministic)
    return 0


def _say_how_it_acted(asked: bool | None, deterministic: bool) -> None:
    if asked is None and not deterministic:
        print("It acted as in training, which brought no reward from outside; --deterministic takes likeliest actions.")


def _free_recording(folder: Path) -> Path:
    path, number = folder / "recording.mp4", 1
    while path.exists():
        number += 1
        path = folder / f"recording-{number}.mp4"
    return path


def _watch(options: argparse.Namespace) -> int:
    from rich.console import Console

    from farl.experiment.run_directory import open_run_directory
    from farl.experiment.watching import watch

    watch(open_run_directory(options.run), Console(), once=options.once)
    return 0


def _report(options: argparse.Namespace) -> int:
    from farl.experiment.report import write_comparison, write_report
    from farl.experiment.run_directory import open_run_directory

    opened = [open_run_directory(name) for name in options.runs]
    if len(opened) == 1 and options.out is None:
        from farl.experiment.finished import Run

        write_report(opened[0], Run(opened[0]).metrics)
        print(opened[0].report_file)
        return 0
    out = options.out if options.out is not None else Path("runs.html")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no directory {out.parent}; make it first")
    write_comparison({str(run.path): run for run in opened}, out)
    print(out)
    return 0


def _list(options: argparse.Namespace) -> int:
    rows = _LISTS[options.what]()
    width = max(map(len, rows), default=0)
    for name, note in rows.items():
        print(f"{name:{width}}  {note}".rstrip())
    return 0


def _list_configs() -> dict[str, str]:
    from farl.experiment.shipped import shipped_configs

    return shipped_configs()


def _list_environments() -> dict[str, str]:
    from farl.experiment.environments import describe_environments

    return describe_environments()


def _list_algorithms() -> dict[str, str]:
    from farl.experiment.algorithms import ALGORITHMS

    return {name: package.replace("_", "-") for name, package in ALGORITHMS.items()}


def _list_modules() -> dict[str, str]:
    from farl.experiment.mechanisms import describe_mechanisms

    return describe_mechanisms()


_LISTS = {
    "envs": _list_environments,
    "algorithms": _list_algorithms,
    "modules": _list_modules,
    "configs": _list_configs,
}


def _validate(options: argparse.Namespace) -> int:
    from farl.experiment.loading import load_config
    from farl.experiment.sweep.plan import refuse_several

    refuse_several(options.overrides, "validate", options.config)
    config = load_config(options.config, options.overrides)

    from farl.experiment.learner import learner_name

    what = f"{learner_name(config)} on {config.environment.id}"
    print(f"{options.config}: valid: {what}, {config.total_timesteps:,} timesteps, seed {config.seed}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from farl.experiment.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


def _table(title: str, rows: dict[str, str]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows.items():
        table.add_row(name, value)
    return table
