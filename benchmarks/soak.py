"""Does a long run stay within its memory? Training runs of the command line are watched from outside, step after step.

- ``FARMap``: 10 million steps in worlds of 600 x 600 cells, more than its long-term memory can hold
- ``FAR(PPO)``: 2 million steps in RoomChain, with a criterion so sharp that its long-term memory is soon full
- ``FAR(PPO), a quarter``: the same with a quarter of the memory, long enough to be full

What the process takes (resident set size, RSS) is watched, and its open files are counted. Once the memory is full
nothing may grow any more. And RSS is set beside what FARL says that it holds (``far/memory_mb``): the memory's other
three quarters have to take what they are said to take. Two runs are compared, and not one before and after its memory
filled, for meanwhile libraries are loaded as well.

    python -m benchmarks.soak                     # hours; goes on where it was stopped
    python -m benchmarks.soak --only "FAR(PPO)" "FAR(PPO), a quarter"
    python -m benchmarks.soak --quick             # a fiftieth of the steps, in a few minutes
    python -m benchmarks.soak --steps 0.25        # a quarter of them

Writes ``soak.json``, ``table.md`` and ``soak.png`` to ``--out`` (default: ``benchmarks/results/soak``). The runs lie in
``--work`` (default: a folder of that name below the system's temporary one).
"""

import argparse
import json
import logging
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import yaml
from matplotlib.figure import Figure

from farl.experiment.files import write_atomically
from farl.experiment.metrics import library_versions, machine_facts
from farl.experiment.tables import read_table
from farl.sb3.pictures import rendered, write_png

RUNS: dict[str, dict[str, Any]] = {
    "FARMap": {
        "total_timesteps": 10_000_000,
        "environment": {"id": "farl/MapWorld-Huge-v0", "n_envs": 8, "kwargs": {"max_steps": 100_000}},
        "algorithm": {"name": "FARMap", "policy": "MultiInputPolicy", "hyperparameters": {"capacity": 16}},
    },
    "FAR(PPO)": {
        "total_timesteps": 2_000_000,
        "environment": {"id": "farl/RoomChain-12-v0", "n_envs": 16},
        "algorithm": {
            "name": "PPO",
            "fast": True,
            "hyperparameters": {"n_steps": 128, "batch_size": 512, "n_epochs": 2, "ent_coef": 0.01},
        },
        "far": {
            "module": "rnd",
            "criterion": {"name": "ratio", "threshold": 1.5, "min_samples": 64},
            "memory": {"capacity": 200},
            "warmup": 1000,
        },
    },
}
QUARTER = "FAR(PPO), a quarter"
_whole = RUNS["FAR(PPO)"]
RUNS[QUARTER] = _whole | {"total_timesteps": 100_000, "far": _whole["far"] | {"memory": {"capacity": 50}}}
COMMON: dict[str, Any] = {"seed": 0, "device": "cpu", "torch_threads": 1, "checkpoints": {"keep": 1}}
QUICK = 0.02
GROWS = 0.05
"""Share by which RSS may grow once the long-term memory is full."""
AGREES = 0.1
"""Share by which what is reported may differ from what memory the process took for it."""
_POINTS = 400
_COLUMNS = ("attempt", "seconds", "steps", "rss", "reported", "fragments", "files")

Samples = npt.NDArray[np.float64]


def watch(name: str, share: float, folder: Path, every: float) -> Path:
    """Train, or go on training, and note a sample every so many seconds; return the file of the samples.

    :param share: share of the steps
    :raises RuntimeError: the run failed
    """
    folder.mkdir(parents=True, exist_ok=True)
    run, config, file = folder / "run", folder / "config.yaml", folder / "samples.jsonl"
    share = 1.0 if name == QUARTER else share  # it is short as it is
    settings = {**COMMON, **RUNS[name], "total_timesteps": int(share * RUNS[name]["total_timesteps"])}
    if (run / "metrics.json").is_file():
        return file
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    started = (run / "config.yaml").is_file()
    attempt = len({line["attempt"] for line in _lines(file)})
    command = ["resume", str(run)] if started else ["train", str(config), "--out", str(run)]
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        process = psutil.Popen([sys.executable, "-m", "farl", *command], stdout=output, stderr=output)
    began = time.monotonic()
    try:
        with file.open("a", encoding="utf-8") as samples:
            while process.poll() is None:
                time.sleep(every)
                sample = _sample(process, run)
                if sample is not None and sample["steps"] < settings["total_timesteps"]:  # then it writes its report
                    row = {"attempt": attempt, "seconds": round(time.monotonic() - began, 1), **sample}
                    samples.write(json.dumps(row) + "\n")
                    samples.flush()
    finally:
        if process.poll() is None:
            process.terminate()  # it saves a checkpoint
            process.wait()
    if process.returncode:
        raise RuntimeError(f"the run failed; see {folder / 'output.txt'}")
    return file


def _sample(process: psutil.Popen, run: Path) -> dict[str, float] | None:
    """Return what the process takes and what it says, or None before the first log or after the end."""
    log = read_table(run / "progress.csv")
    if "far/memory_mb" not in log:
        return None
    try:
        with process.oneshot():
            taken, files = process.memory_info().rss / 2**20, process.num_fds()
        if not taken:
            return None  # it has ended
    except psutil.NoSuchProcess:
        return None
    reported, fragments = (log[key][np.isfinite(log[key])] for key in ("far/memory_mb", "far/fragments"))
    return {
        "steps": int(log["timesteps"][-1]),
        "rss": round(taken, 2),
        "reported": round(float(reported[-1]), 3),
        "fragments": int(fragments[-1]),
        "files": files,
    }


def read_samples(file: Path) -> Samples:
    """Return the samples, float64[N, columns], those without a new log left out."""
    rows = np.array([[line[key] for key in _COLUMNS] for line in _lines(file)]).reshape(-1, len(_COLUMNS))
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:, [0, 2]] != rows[:-1, [0, 2]]).any(axis=1)
    return rows[new]


def _lines(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def judge(samples: Samples) -> dict[str, Any]:
    """Return the figures of a run: of its last attempt, for each process has memory of its own.

    Once the long-term memory is full, RSS has to stay. The first tenth of that time is left out: libraries are still
    being loaded then.
    """
    last = samples[samples[:, 0] == samples[-1, 0]]
    _, seconds, steps, rss, reported, fragments, files = last.T
    full = int(np.argmax(fragments >= fragments.max()))
    first = min(full + max(1, (len(last) - full) // 10), len(last) - 1)
    third = max(1, (len(last) - first) // 3)
    before, after = np.median(rss[first : first + third]), np.median(rss[-third:])
    filled = slice(full, None) if full + 1 < len(last) else slice(0, None)
    return {
        "steps": int(steps[-1]),
        "attempts": int(samples[-1, 0]) + 1,
        "minutes": round(float(seconds[-1]) / 60, 1),
        "fragments": int(fragments.max()),
        "full after steps": int(steps[full]),
        "reported MiB": round(float(reported[-1]), 1),
        "RSS when full MiB": round(float(before), 1),
        "RSS at the end MiB": round(float(after), 1),
        "growth when full": round(float(after / before - 1), 4),
        "open files": [int(np.median(part)) for part in np.array_split(files[filled], 2) if len(part)],
    }


def taken_for_reported(whole: Samples, quarter: Samples) -> float:
    """Return how many MiB a process takes for each that it reports, from two runs whose memories are full.

    They are compared at the same steps, in the second half of the shorter one: by then the same libraries are loaded.
    """
    last = quarter[-1, 2]
    ends = [np.median(run[(run[:, 2] >= last / 2) & (run[:, 2] <= last)], axis=0) for run in (whole, quarter)]
    _, _, _, taken, reported, _, _ = ends[0] - ends[1]
    return round(float(taken / reported), 3)


def table(document: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    rows = document["runs"]
    names = list(next(iter(rows.values())))
    lines = [
        "# soak",
        "",
        f"Command: `{document['command']}`",
        f"{document['cpu']}, {document['cpu_count']} cores, {document['date']}",
        "",
        f"| run | {' | '.join(names)} |",
        f"|---{'|---' * len(names)}|",
    ]
    for run, row in rows.items():
        cells = [_told(row[name]) for name in names]
        lines.append(f"| {run} | {' | '.join(cells)} |")
    if (ratio := document["RSS per reported MiB"]) is not None:
        lines += ["", f"RSS per reported MiB: {ratio}"]
    lines += [
        "",
        "- growth when full: RSS in the last third of the time with a full long-term memory, beside the first third",
        "- RSS per reported MiB: how much more the whole memory of FAR(PPO) takes than a quarter of it, after as many "
        "steps, for each MiB by which `far/memory_mb` is more",
        "- open files: median of the first and of the second half of the time with a full long-term memory",
    ]
    return "\n".join(lines) + "\n"


def _told(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"


def picture(curves: dict[str, Any]) -> Figure:
    """Draw RSS, what is reported, and open files over the steps."""
    figure = Figure(figsize=(5 * len(curves), 6), layout="constrained")
    panels = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for (name, curve), (memory, files) in zip(curves.items(), panels.T, strict=True):
        millions = np.array(curve["steps"]) / 1e6
        memory.plot(millions, curve["rss"], label="RSS")
        memory.plot(millions, curve["reported"], label="far/memory_mb")
        memory.set(title=name, ylabel="MiB", ylim=(0, None))
        memory.legend()
        files.plot(millions, curve["files"], color="tab:green")
        files.set(xlabel="million steps", ylabel="open files", ylim=(0, None))
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and return 1 where memory was not what it had to be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=RUNS, metavar="RUN", help=f"some of the runs: {', '.join(RUNS)}")
    parser.add_argument("--steps", type=float, metavar="SHARE", help="share of the steps (default: 1)")
    parser.add_argument("--quick", action="store_true", help=f"--steps {QUICK}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "soak", metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "farl-soak", metavar="DIR")
    options = parser.parse_args(arguments)
    share = options.steps or (QUICK if options.quick else 1.0)
    if not 0.0 < share <= 100.0:
        parser.error(f"--steps: a share above 0, up to 100; got {share}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = options.only or list(RUNS)
    document: dict[str, Any] = {
        "command": "python -m benchmarks.soak"
        + (f" --only {shlex.join(names)}" if options.only else "")
        + (f" --steps {share:g}" if share != 1.0 else ""),
        "runs": {},
        "curves": {},
    }
    taken: dict[str, Samples] = {}
    for name in names:
        samples = taken[name] = read_samples(
            watch(name, share, options.work / f"{name}-{share:g}", 1.0 if share < 0.1 else 5.0)
        )
        document["runs"][name] = judge(samples)
        logging.info("%s: %s", name, document["runs"][name])
        thinned = samples[:: -(-len(samples) // _POINTS)]
        document["curves"][name] = {key: thinned[:, column].tolist() for column, key in enumerate(_COLUMNS)}
    done = document["runs"]
    both = {"FAR(PPO)", QUARTER} <= taken.keys()
    document["RSS per reported MiB"] = taken_for_reported(taken["FAR(PPO)"], taken[QUARTER]) if both else None
    document |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine_facts()}
    document["versions"] = library_versions()
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "soak.json", json.dumps(document) + "\n")
    write_atomically(options.out / "table.md", table(document))
    write_png(options.out / "soak.png", rendered({"soak": picture(document["curves"])})["soak"])
    ratio = document["RSS per reported MiB"]
    disagrees = ratio is not None and abs(ratio - 1.0) > AGREES
    long = [row for name, row in done.items() if name != QUARTER]  # which ends before the first pictures are drawn
    grew = any(row["growth when full"] > GROWS or row["open files"][-1] > row["open files"][0] for row in long)
    return int(disagrees or grew)


if __name__ == "__main__":
    sys.exit(main())
