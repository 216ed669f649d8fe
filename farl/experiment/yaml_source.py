"""Reads one YAML file into plain data and remembers on which line every key stands.

ruamel.yaml rather than PyYAML: it follows YAML 1.2, where ``1e6`` is a number and ``no`` a word, and it refuses
duplicate keys. Safe and pure: no Python objects are ever built from tags.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node

from farl.errors import ConfigError
from farl.validation import KeyPath

MAX_BYTES = 1_000_000
MAX_DEPTH = 20


@dataclass(frozen=True)
class YamlDocument:
    """The mapping a file holds and, per key path, where it came from (``"file.yaml:12"``)."""

    data: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)


def read_yaml(path: Path) -> YamlDocument:
    """Read the mapping in ``path``.

    Raises:
        ConfigError: the file is missing, a directory, empty, binary, too large, not YAML 1.2, nested too deeply,
            uses aliases, repeats a key, or holds something other than a mapping.
    """
    text = _read_text(path)
    _refuse_bombs(text, path)
    yaml = YAML(typ="safe", pure=True)
    try:
        data = yaml.load(text)
        node = YAML(typ="safe", pure=True).compose(io.StringIO(text))
    except DuplicateKeyError as error:
        raise ConfigError(_duplicate_key(error, path)) from None
    except MarkedYAMLError as error:
        raise ConfigError(f"{_position(error, path)}: not valid YAML: {_problem(error)}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if data is None:
        raise ConfigError(f"{path}: the file is empty; start from a shipped configuration: farl list configs")
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: expected a mapping of keys to values at the top level, found a {_kind(data)}; "
            "write lines such as 'seed: 0'"
        )
    bad_keys = [key for key in _all_keys(data) if not isinstance(key, str)]
    if bad_keys:
        raise ConfigError(*(f"{path}: the key {key!r} is not a word; put it in quotes" for key in bad_keys))
    return YamlDocument(data, dict(_origins(node, path, ())))


def parse_value(text: str, name: str = "value") -> Any:
    """Read a value as YAML would: ``"1e6"`` is a number, ``"null"`` is None, ``"[64, 64]"`` a list.

    Args:
        text: what stands for the value
        name: what errors call it

    Raises:
        ConfigError: the text is not one YAML value.
    """
    _refuse_bombs(text, Path(name))
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"cannot read {text!r} as a YAML value: {_first_line(error)}") from None


def write_yaml(data: dict[str, Any], header: str) -> str:
    """The data as block-style YAML below ``header``, keys in the given order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(data, stream)
    return header + stream.getvalue()


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"{path}: is a directory; give a YAML file in it")
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; farl list configs shows the ones that come with FARL") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; this is not a configuration")
    if b"\x00" in raw:
        raise ConfigError(f"{path}: is a binary file; give a YAML file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _refuse_bombs(text: str, path: Path) -> None:
    """Refuse deep nesting and aliases while streaming events, before anything recursive sees the text."""
    depth = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            name = type(event).__name__
            if name == "AliasEvent":
                line = event.start_mark.line + 1
                raise ConfigError(f"{path}:{line}: aliases (*{event.anchor}) are not supported; write the value out")
            depth += name.endswith("StartEvent") - name.endswith("EndEvent")
            if depth > MAX_DEPTH + 2:  # the stream and the document count too
                raise ConfigError(f"{path}:{event.start_mark.line + 1}: nested more than {MAX_DEPTH} levels deep")
    except MarkedYAMLError as error:
        raise ConfigError(f"{_position(error, path)}: not valid YAML: {_problem(error)}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_first_line(error)}") from None


def _origins(node: Node, path: Path, prefix: KeyPath) -> Iterable[tuple[KeyPath, str]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            here = (*prefix, str(key.value))
            yield here, f"{path}:{key.start_mark.line + 1}"
            yield from _origins(value, path, here)


def _all_keys(data: Any) -> Iterable[Any]:
    if isinstance(data, dict):
        yield from data
        for value in data.values():
            yield from _all_keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _all_keys(value)


def _duplicate_key(error: DuplicateKeyError, path: Path) -> str:
    name = str(error.problem).split('"')[1] if '"' in str(error.problem) else "a key"
    first = error.context_mark.line + 1 if error.context_mark else None
    where = f" in the mapping that starts on line {first}" if first else ""
    return f"{_position(error, path)}: duplicate key {name!r}{where}; keep one of them"


def _position(error: MarkedYAMLError, path: Path) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _problem(error: MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return " ".join(" ".join(part.split()) for part in parts)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _kind(data: Any) -> str:
    return {"list": "list", "str": "single piece of text", "int": "number", "float": "number"}.get(
        type(data).__name__, type(data).__name__
    )
