"""What a checkpoint says of itself: its files and their checksums. A damaged one is never taken for whole."""

import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from farl.errors import ConfigError

__all__ = ["Manifest", "read_manifest", "write_manifest"]

_NAME = "manifest.json"
_FORMAT = "farl-checkpoint-3"
_MOST_BYTES = 1_000_000


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Fingerprint(_Strict):
    """Size and checksum of a file."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Strict):
    """What a checkpoint holds.

    :ivar files: name of each file in the folder -> its fingerprint
    """

    format: str = _FORMAT
    timesteps: Annotated[int, Field(ge=0)]
    algorithm: str
    far: bool
    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")], Fingerprint]


def write_manifest(folder: Path, timesteps: int, algorithm: str, far: bool) -> None:
    """Describe all files that lie in a folder, and put the description beside them."""
    files = {file.name: _fingerprint(file) for file in sorted(folder.iterdir())}
    manifest = Manifest(timesteps=timesteps, algorithm=algorithm, far=far, files=files).model_dump()
    document = {**manifest, "sha256": _seal(manifest)}
    (folder / _NAME).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read what a checkpoint says of itself, and compare every byte of its files with it.

    :raises ConfigError: something is missing, damaged or not FARL's
    """
    file = folder / _NAME
    try:
        with file.open("rb") as stream:
            document = json.loads(stream.read(_MOST_BYTES))
        if not isinstance(document, dict):
            raise ValueError
        if document.get("format") != _FORMAT:
            raise ConfigError(f"{folder}: checkpoint of another version of FARL ({str(document.get('format'))[:40]})")
        seal = document.pop("sha256", None)
        manifest = Manifest.model_validate(document)
        if seal != _seal(document):
            raise ValueError
    except FileNotFoundError:
        raise ConfigError(f"{folder}: not a FARL checkpoint (it holds no {_NAME})") from None
    except ConfigError:
        raise
    except (OSError, ValueError, ValidationError, RecursionError):
        raise ConfigError(f"{file}: damaged") from None
    for name, expected in manifest.files.items():
        _compare(folder / name, expected)
    return manifest


def _compare(file: Path, expected: Fingerprint) -> None:
    try:
        size = file.stat().st_size
        if size != expected.bytes:
            raise ConfigError(f"{file}: damaged ({size:,} bytes instead of {expected.bytes:,})")
        if _fingerprint(file) != expected:
            raise ConfigError(f"{file}: damaged (its checksum is wrong)")
    except FileNotFoundError:
        raise ConfigError(f"{file}: missing from the checkpoint") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None


def _fingerprint(file: Path) -> Fingerprint:
    with file.open("rb") as stream:
        return Fingerprint(bytes=file.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def _seal(document: dict[str, object]) -> str:
    """Checksum of the manifest itself."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
