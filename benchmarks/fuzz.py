"""Feeds broken input to everything that reads files: whatever it is, the answer is an error of ours, in one short line.

    python -m benchmarks.fuzz                    # 200 000 cases, an hour on one core; goes on where it was stopped
    python -m benchmarks.fuzz --cases 2000       # as CI does
    python -m benchmarks.fuzz --only state       # one of the targets
    python -m benchmarks.fuzz --only state --atheris    # guided by coverage, until Ctrl-C (pip install 'farl[fuzz]')

Each case is a valid file with a few edits, or made of nothing, by hypothesis, which shrinks what fails. The cases come
in rounds, each with a seed of its own; after each, the counts are written to ``benchmarks/results/fuzz/fuzz.json``.
"""

import argparse
import io
import json
import math
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from farl.errors import ConfigError
from farl.experiment.files import write_atomically
from farl.experiment.metrics import library_versions, machine_facts

RESULTS = Path(__file__).parent / "results" / "fuzz" / "fuzz.json"
ROUND = 5_000
"""Cases of a round, of all targets together."""
LONGEST = 300
"""Characters of a line of an error."""
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_COSTLY = ("procgen", "miniworld")
"""Configs whose environments cannot be made and dropped thousands of times: MiniWorld keeps 37 MB of each."""
NASTY = (
    b"null",
    b"-1",
    b"1e400",
    b".nan",
    b"[]",
    b"{}",
    b'""',
    b"true",
    b"99999999999999999999",
    b"'x'",
    b"\x00",
    b"\xff",
)

Target = Callable[[bytes], None]


class Broken(AssertionError):
    """Something other than an error of ours in one short line."""


def checked(read: Callable[[], object]) -> None:
    """Read something; only a ConfigError of short lines may come of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except ConfigError as error:
        for line in error.problems:
            if "\n" in line.strip() or len(line) > LONGEST:
                raise Broken(f"{len(line)} characters: {line[:400]!r}") from error
    except (MemoryError, Exception) as error:
        raise Broken(f"{type(error).__name__}: {str(error)[:200]}") from error


@st.composite
def edits(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with up to four edits, or nothing of it."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == 1:
            content[at:at] = draw(st.sampled_from(NASTY) | st.binary(max_size=8))
        elif kind == 2:
            del content[at : min(end, at + 200)]
        elif kind == 3:
            content[at:at] = content[at : min(end, at + 200)]
        else:  # a whole word becomes another
            text = bytes(content)
            left = max(text.rfind(mark, 0, at) for mark in (b" ", b",", b"[", b"\n")) + 1
            right = min(
                (place for mark in (b" ", b",", b"]", b"}", b"\n") if (place := text.find(mark, at)) >= 0), default=at
            )
            content[left : max(left, right)] = draw(st.sampled_from(NASTY))
    return bytes(content)


def targets(folder: Path) -> dict[str, tuple[Sequence[bytes], Target, float]]:
    """By name: valid files, what reads a case, and the share of all cases."""
    from farl.envs.map_world.loaders import load_grids
    from farl.experiment.loading import load_config
    from farl.experiment.manifest import read_manifest, write_manifest
    from farl.experiment.shipped import shipped_configs
    from farl.memory import LongTermMemory
    from farl.memory.storage import load_state, save_state
    from farl.sb3.archives import look_at
    from farl.sb3.plain_data import from_plain

    configs = Path(str(__import__("farl.configs", fromlist=["x"]).__file__)).parent
    taken = [name for name in sorted(shipped_configs()) if not any(part in name for part in _COSTLY)]
    yaml_files = [(configs / f"{name}.yaml").read_bytes() for name in taken]

    def written(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    def override(content: bytes) -> None:
        words = content.decode(errors="replace").split("\n")
        load_config("ppo_baseline", [word for word in words if word])

    def grids(suffix: str) -> Target:
        return lambda content: checked(lambda: load_grids(written(f"map.{suffix}", content)))

    def state(content: bytes) -> None:
        load_state(written("x.safetensors", content))

    def tree(content: bytes) -> None:
        """A state whose description is whole, and whose content is not what a memory holds."""
        data = json.loads(content) if _is_json(content) else content.decode(errors="replace")
        save_state(_with_tensors(data), folder / "tree.safetensors", durable=False)
        LongTermMemory(capacity=8).load(folder / "tree.safetensors")

    def manifest(content: bytes) -> None:
        written("manifest.json", content)
        read_manifest(folder)

    memory: Any = LongTermMemory(capacity=8)
    for number in range(3):
        memory.add({"weight": torch.ones(2) * number}, torch.eye(3)[number : number + 1])
    memory.save(folder / "memory.safetensors")
    saved = (folder / "memory.safetensors").read_bytes()
    (folder / "memory.safetensors").unlink()
    write_manifest(folder, 5, "PPO", far=True)
    manifests = [(folder / "manifest.json").read_bytes()]
    archives = [io.BytesIO() for _ in _COMPRESSIONS]
    for archive, compression in zip(archives, _COMPRESSIONS, strict=True):
        with zipfile.ZipFile(archive, "w", compression) as target:
            target.writestr(
                "data", json.dumps({"a": {":farl:": {":tuple:": [1, {":array:": ["<f4", [1], "AAAAAA=="]}]}}})
            )
    plain = [
        json.dumps({":space:": ["Discrete", [2, 0, "<i8"], None]}).encode(),
        b'{":class:": "torch.nn.modules.activation:ReLU"}',
    ]
    maps: dict[str, list[bytes]] = {"txt": [b"#####\n#...#\n#.#.#\n#...#\n#####\n"]}
    for name, save in (("npy", np.save), ("npz", np.savez), ("npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, np.pad(np.zeros((5, 5), bool), 1, constant_values=True))
        maps.setdefault(name, []).append(buffer.getvalue())
    maps["pgm"] = [b"P5 5 5 255\n" + bytes([0] * 6 + [255] * 13 + [0] * 6)]
    found: dict[str, tuple[Sequence[bytes], Target, float]] = {
        "config": (yaml_files, lambda c: checked(lambda: load_config(written("x.yaml", c))), 0.05),
        "override": (
            [b"seed=3\nfar.module=rnd", b"algorithm.hyperparameters.n_steps=64"],
            lambda c: checked(lambda: override(c)),
            0.05,
        ),
        "state": ([saved], lambda c: checked(lambda: state(c)), 0.25),
        "memory": (
            [
                b'{"tiers": {"payloads": {"1": [1, 2]}, "files": {}}, "lent": {}, "keys": [[1, 0], [0, 1]],'
                b' "key_owners": [1, 1], "last_used": {"1": 3}, "clock": 4, "next_id": 2, "edges": []}'
            ],
            lambda c: checked(lambda: tree(c)),
            0.05,
        ),
        "manifest": (manifests, lambda c: checked(lambda: manifest(c)), 0.1),
        "zip": (
            [archive.getvalue() for archive in archives],
            lambda c: checked(lambda: look_at(written("model.zip", c))),
            0.1,
        ),
        "plain": (plain, lambda c: checked(lambda: from_plain(json.loads(c)) if _is_json(c) else None), 0.2),
    }
    for suffix, content in maps.items():
        found[f"map-{suffix}"] = (content, grids(suffix), 0.2 / len(maps))
    return found


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _with_tensors(tree: Any) -> Any:
    """Lists of numbers become tensors, and keys what a state can hold."""
    if isinstance(tree, list) and tree and all(type(part) in (int, float) and abs(part) < 1e9 for part in tree):
        return torch.tensor(tree, dtype=torch.float32)
    if isinstance(tree, list):
        return [_with_tensors(part) for part in tree]
    if isinstance(tree, dict):
        return {key: _with_tensors(part) for key, part in tree.items()}
    return tree


def fuzz(name: str, seeds: Sequence[bytes], target: Target, cases: int, number: int = 0) -> str | None:
    """Run so many cases of a target; returns what went wrong, or None.

    :param number: draws the cases
    """

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(edits(seeds))
    def case(content: bytes) -> None:
        target(content)

    try:
        case()
    except Broken as broken:
        return f"{name}: {broken}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=200_000, metavar="N", help="in all (default: 200000)")
    parser.add_argument("--only", metavar="TARGET", help="one of the targets")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose the cases, of the target --only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        known = targets(Path(folder))
        if options.only is not None and options.only not in known:
            parser.error(f"--only: known: {', '.join(known)}")
        if options.atheris:
            return _by_coverage(*known[options.only or "state"][:2])
        chosen = {name: known[name] for name in known if options.only in (None, name)}
        file = RESULTS if options.only is None and options.cases >= ROUND else None
        return _in_rounds(chosen, options.cases, file)


def _in_rounds(chosen: dict[str, tuple[Sequence[bytes], Target, float]], cases: int, file: Path | None) -> int:
    """Run so many cases of some targets, all of them in each round; return 1 where anything was found.

    :param file: keeps the counts, and where a run that was stopped goes on; None for neither
    """
    rounds, shares = -(-cases // ROUND), sum(share for *_, share in chosen.values())
    document: dict[str, Any] = {"rounds": 0, "cases": dict.fromkeys(chosen, 0), "seconds": 0.0, "found": []}
    if file is not None and file.is_file():
        held = json.loads(file.read_text(encoding="utf-8"))
        document = held if held["rounds"] < rounds else document
    for number in range(document["rounds"], rounds):
        began = time.monotonic()
        for name, (seeds, target, share) in chosen.items():
            count = math.ceil(min(cases, ROUND) * share / shares)
            wrong = fuzz(name, seeds, target, count, number)
            document["cases"][name] += count
            document["found"] += [wrong] if wrong is not None else []
            sys.stdout.write(f"{name:10} {document['cases'][name]:7,} cases  {wrong or 'errors of ours alone'}\n")
            sys.stdout.flush()
        document |= {"rounds": number + 1, "seconds": round(document["seconds"] + time.monotonic() - began, 1)}
        document |= {"of rounds": rounds, "date": datetime.now(UTC).isoformat(timespec="seconds"), **machine_facts()}
        document["versions"] = library_versions()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(document, indent=1) + "\n")
    return int(bool(document["found"]))


def _by_coverage(seeds: Sequence[bytes], target: Target) -> int:
    import atheris

    @given(edits(seeds))
    def case(content: bytes) -> None:
        target(content)

    atheris.instrument_all()
    atheris.Setup(sys.argv[:1], case.hypothesis.fuzz_one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
