"""Reads one YAML file into plain data and remembers on which line every key stands.

PyYAML with libyaml, which reads a megabyte in a second, and the types of YAML 1.2's core: ``1e6`` is a number and
``no`` a word. Duplicate keys and aliases are refused, and no Python objects are ever built from tags.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError

from farl.errors import ConfigError
from farl.validation import KeyPath, short

_Fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a Python built without libyaml reads slowly
MAX_BYTES = 1_000_000
MAX_DEPTH = 20


@dataclass(frozen=True)
class YamlDocument:
    """The mapping a file holds and, per key path, where it came from (``"file.yaml:12"``)."""

    data: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)


def read_yaml(
    path: Path, start: str = "start from a shipped configuration: farl list configs", line: str = "seed: 0"
) -> YamlDocument:
    """Read the mapping in ``path``.

    :param start: how to fill an empty file, for errors
    :param line: a line that it could have
    :raises ConfigError: the file is missing, a directory, empty, binary, too large, not YAML 1.2, nested too deeply,
        uses aliases, repeats a key, or holds something other than a mapping
    """
    text = _read_text(path)
    _refuse_bombs(text, path)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_position(error, path)}: {_problem(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{path}: not valid YAML: {_first_line(error)}") from None
    if data is None:
        raise ConfigError(f"{path}: the file is empty; {start}")
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: expected a mapping of keys to values at the top level, found a {_kind(data)}; "
            f"write lines such as {line!r}"
        )
    bad_keys = [key for key in _all_keys(data) if not isinstance(key, str)]
    if bad_keys:
        raise ConfigError(*(f"{path}: the key {key!r} is not a word; put it in quotes" for key in bad_keys))
    return YamlDocument(data, dict(_origins(node, path, ())))


def parse_value(text: str, name: str = "value") -> Any:
    """Read a value as YAML would: ``"1e6"`` is a number, ``"null"`` is None, ``"[64, 64]"`` a list.

    :param text: what stands for the value
    :param name: what errors call it
    :raises ConfigError: the text is not one YAML value
    """
    _refuse_bombs(text, Path(name))
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"cannot read {short(text)} as a YAML value: {_first_line(error)}") from None


def write_yaml(data: dict[str, Any], header: str) -> str:
    """The data as block-style YAML below ``header``, keys in the given order."""
    return header + str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


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
        for event in yaml.parse(text, Loader=_Loader):
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{path}:{line}: aliases (*{event.anchor}) are not supported; write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{path}:{line}: nested more than {MAX_DEPTH} levels deep")
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{_position(error, path)}: {_problem(error)}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {_first_line(error)}") from None


class _Loader(_Fast):  # type: ignore[misc, valid-type]
    """YAML 1.2's core schema, and no key twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, all of whose keys differ."""
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str | int | float | bool | None):
                raise ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in lines:
                first = node.start_mark.line + 1
                what = f"duplicate key {key!r} in the mapping that starts on line {first}; keep one of them"
                raise _DuplicateKey(None, None, what, key_node.start_mark)
            lines[key] = line
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built

    def construct_number(self, node: Any) -> int | float:
        """Build a number as YAML 1.2 has it: 010 is ten, 0o10 is eight."""
        text = self.construct_scalar(node).replace("_", "")
        if node.tag.endswith("float"):
            return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))
        return int(text, 0 if text.lower().lstrip("+-").startswith(("0x", "0o")) else 10)


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _DuplicateKey(ConstructorError):
    """A key stands twice in a mapping."""


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_number)


def _origins(node: Any, path: Path, prefix: KeyPath) -> Iterable[tuple[KeyPath, str]]:
    if isinstance(node, yaml.MappingNode):
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


def _position(error: yaml.MarkedYAMLError, path: Path) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _problem(error: yaml.MarkedYAMLError) -> str:
    told = " ".join(" ".join(part.split()) for part in (error.context, error.problem) if part)
    return told if isinstance(error, _DuplicateKey) else f"not valid YAML: {told}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _kind(data: Any) -> str:
    return {"list": "list", "str": "single piece of text", "int": "number", "float": "number"}.get(
        type(data).__name__, type(data).__name__
    )
