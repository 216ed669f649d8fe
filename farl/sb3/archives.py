"""Zips of models: looked at before they are read, and written without pickled objects where that can be."""

import base64
import binascii
import io
import json
import pickletools
import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from farl.errors import ConfigError
from farl.sb3.plain_data import NotPlain, from_plain, to_plain

__all__ = ["Archive", "look_at", "refusal", "save_without_pickles"]

_PICKLED, _PLAIN = ":serialized:", ":farl:"
_MOST_INFLATION = 20
_MUCH = 100_000_000
"""Bytes that any archive may unpack to."""
_FAMILIAR = re.compile(
    r"gymnasium\.spaces\..*|numpy\.random\.(_\w+|bit_generator):.*|numpy\.dtypes:.*|(stable_baselines3|sb3_contrib)\.(?!.*save_util).*"
    r"|torch\.(nn|optim)\..*|torch:(device|Size|float32|float64)|farl\.(agents|optimisers|sb3\.networks|sb3\.saving).*"
    r"|farl\.experiment\.schedules:Schedule|collections:(deque|OrderedDict|defaultdict)"
    r"|numpy:(dtype|ndarray|bool_|(u?int|float)\d+)|numpy\._?core\.(multiarray|numeric):(_reconstruct|scalar|_frombuffer)"
    r"|builtins:(object|dict|list|set|tuple|frozenset|bytearray|complex|slice|range|int|float|bool|str|type)"
)
"""What a model's pickles name in ordinary use. It decides who is warned: no pickle is safe."""


@dataclass(frozen=True)
class Archive:
    """What a model's zip holds, as far as it can be told without running anything of it.

    :ivar plain: names and values that are plain data
    :ivar pickled: names and pickles of the rest; reading one may run code
    """

    plain: dict[str, Any]
    pickled: dict[str, bytes]

    def unfamiliar(self, replaced: Collection[str] = ()) -> list[str]:
        """What reading the pickles would call beyond the usual packages, as ``module:name``.

        :param replaced: names of values that are given otherwise, so that their pickles are not read
        """
        read = (content for name, content in self.pickled.items() if name not in replaced)
        return sorted({call for content in read for call in _calls(content) if not _FAMILIAR.fullmatch(call)})


def look_at(source: Any) -> Archive:
    """Look into a model's zip, by a path or an open file, and load nothing.

    :raises ConfigError: it is no model's zip, or unpacks to far more than it is
    """
    try:
        with zipfile.ZipFile(_with_suffix(source)) as archive:
            _refuse_bombs(archive, str(source))
            return _contents(json.loads(archive.read("data")))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file") from None
    except KeyError:
        raise ConfigError(f"{source}: is no model of Stable-Baselines3 (it holds no data)") from None
    except Exception as error:  # zipfile, zlib and json raise whatever a malformed archive leads to
        why = str(error)[:100] or type(error).__name__
        raise ConfigError(f"{source}: is no model of Stable-Baselines3, or damaged: {why}") from None
    finally:
        if hasattr(source, "seek"):
            source.seek(0)


def save_without_pickles(model: BaseAlgorithm, path: Path) -> None:
    """Save a model as ``load`` of FAR's classes reads it, with all as plain data that can be told so."""
    written = io.BytesIO()
    getattr(model, "save_as_it_is", model.save)(written)
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            target.writestr(member, _told_plainly(content, model) if member.filename == "data" else content)


def refusal(error: BaseException) -> str | None:
    """Say in our words why torch did not read a part of a zip; None for any other error.

    Torch's own words tell how to switch the protection off.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnpicklingError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return "its weights hold objects that are no tensors, which are not read, for that could run code"


def _told_plainly(data: bytes, model: BaseAlgorithm) -> bytes:
    told = json.loads(data)
    for name, value in told.items():
        if isinstance(value, dict) and _PICKLED in value:
            try:
                told[name] = {_PLAIN: to_plain(vars(model)[name])}
            except NotPlain:
                continue  # something of the user's own: it stays as Stable-Baselines3 writes it
    return json.dumps(told, indent=1).encode()


def _contents(data: Any) -> Archive:
    if not isinstance(data, dict):
        raise ConfigError("is no model of Stable-Baselines3 (its data is no dictionary)")
    plain, pickled = {}, {}
    for name, value in data.items():
        if isinstance(value, dict) and _PLAIN in value:
            plain[name] = from_plain(value[_PLAIN])
        elif isinstance(value, dict) and _PICKLED in value:
            try:
                pickled[name] = base64.b64decode(str(value[_PICKLED]))
            except binascii.Error:
                raise ConfigError(f"{name} is damaged") from None
    return Archive(plain, pickled)


def _refuse_bombs(archive: zipfile.ZipFile, name: str, outer: int | None = None) -> None:
    """Refuse an archive that unpacks to far more than it is, also one within it: torch's files are zips themselves."""
    size = outer if outer is not None else sum(member.compress_size for member in archive.infolist())
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_MUCH, _MOST_INFLATION * size):
        raise ConfigError(f"would unpack to {unpacked:,} bytes from {size:,}; this is no model")
    for member in archive.infolist() if outer is None else ():
        if member.filename.endswith(".pth"):
            with archive.open(member) as stream:
                try:
                    with zipfile.ZipFile(stream) as inner:
                        _refuse_bombs(inner, name, member.file_size)
                except zipfile.BadZipFile:
                    continue  # torch says what is wrong with it


def _with_suffix(source: Any) -> Any:
    """Where Stable-Baselines3 finds a model that is named without ``.zip``."""
    if isinstance(source, str | Path) and not Path(source).exists() and Path(f"{source}.zip").exists():
        return Path(f"{source}.zip")
    return source


def _calls(content: bytes) -> Iterator[str]:
    """What a pickle names, as ``module:name``; it is read as a list of instructions, and not followed."""
    pushed: list[str] = []
    memo: dict[int, str] = {}
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name == "GLOBAL":
                yield str(argument).replace(" ", ":", 1)
            elif code.name == "STACK_GLOBAL":
                yield ":".join(pushed[-2:])
            elif code.name in ("INST", "EXT1", "EXT2", "EXT4", "POP", "POP_MARK", "DUP"):
                yield "something:hidden"  # what an honest pickle has no need of
            elif "UNICODE" in code.name:
                pushed.append(str(argument))
            elif code.name == "MEMOIZE":
                memo[len(memo)] = pushed[-1] if pushed else ""
            elif "PUT" in code.name:
                memo[int(str(argument))] = pushed[-1] if pushed else ""
            elif code.name in ("BINGET", "LONG_BINGET", "GET"):
                pushed.append(memo.get(int(str(argument)), ""))
    except Exception:  # pickletools raises whatever a malformed pickle leads to
        yield "something:damaged"
