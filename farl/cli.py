"""The ``farl`` command. Heavy imports wait until a command needs them, so that ``farl --help`` is quick."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import farl
from farl.commands import add_config, add_run, compare, play, share, sweep, train
from farl.errors import BAD_INPUT, INTERRUPTED, ConfigError, did_you_mean

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
    for name, command, declare, examples in _COMMANDS:
        does = command.__doc__ or ""
        sub = commands.add_parser(
            name,
            help=does[:1].lower() + does[1:-1],
            description=does,
            epilog=examples if examples.startswith("examples:") else f"example:\n  {examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        declare(sub)
        parsers[name] = sub
    return parser, parsers


def _add_watch(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("--once", action="store_true", help="print how things stand now, and end")


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, such as runs/quickstart")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html, or runs.html)")


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(_LISTS), help="what to list")


def _watch(options: argparse.Namespace) -> int:
    """Show in the terminal how a run goes, while it goes or later."""
    from rich.console import Console

    from farl.experiment.run_directory import open_run_directory
    from farl.experiment.watching import watch

    watch(open_run_directory(options.run), Console(), once=options.once)
    return 0


def _report(options: argparse.Namespace) -> int:
    """Write the page about a run anew, or one page about several."""
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
    """Print what can be named in YAML."""
    rows = _LISTS[options.what]()
    width = max(map(len, rows), default=0)
    for name, note in rows.items():
        print(f"{name:{width}}  {note}".rstrip())
    return 0


def _list_configs() -> dict[str, str]:
    from farl.experiment.shipped import shipped_configs

    return shipped_configs()


def _list_environments() -> dict[str, str]:
    from farl.experiment.named_environments import describe_environments

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
    """Check a YAML file and train nothing."""
    from farl.experiment.loading import load_config
    from farl.experiment.sweep.plan import refuse_several

    refuse_several(options.overrides, "validate", options.config)
    config = load_config(options.config, options.overrides)

    from farl.experiment.config import learner_name

    what = f"{learner_name(config)} on {config.environment.id}"
    print(f"{options.config}: valid: {what}, {config.total_timesteps:,} timesteps, seed {config.seed}")
    return 0


def _schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of YAML files, for editors."""
    from farl.experiment.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0


def _nothing(parser: argparse.ArgumentParser) -> None:
    """Declare no argument."""


# Name, what it does (by its docstring; it returns the exit code), what declares its arguments, examples.
_Command = tuple[str, Callable[[argparse.Namespace], int], Callable[[argparse.ArgumentParser], None], str]
_COMMANDS: tuple[_Command, ...] = (
    ("train", train.train, train.add_train, "farl train quickstart seed=3 total_timesteps=1e5"),
    ("evaluate", play.evaluate, play.add_evaluate, "farl evaluate runs/quickstart"),
    ("resume", train.resume, train.add_resume, "farl resume runs/quickstart"),
    ("record", play.record, play.add_record, "farl record runs/quickstart --out agent.gif"),
    ("sweep", sweep.run, sweep.add_arguments, sweep.EXAMPLES),
    ("compare", compare.run, compare.add_arguments, compare.EXAMPLES),
    ("export", share.export, share.add_export, share.EXPORT_EXAMPLES),
    ("export-map", share.export_map, share.add_export_map, share.MAP_EXAMPLES),
    ("push", share.push, share.add_push, share.PUSH_EXAMPLES),
    ("watch", _watch, _add_watch, "farl watch quickstart"),
    ("report", _report, _add_report, "farl report runs/quickstart runs/quickstart-2 --out both.html"),
    ("list", _list, _add_list, "farl list envs | grep MiniGrid"),
    ("validate", _validate, add_config, "farl validate my.yaml seed=3"),
    ("schema", _schema, _nothing, "farl schema > schema.json"),
)
