"""A mark on bytes that only this user's runs on this machine can make: what is pickled is read back only with it."""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

__all__ = ["is_sealed", "seal"]

_SIZE = 32


def seal(content: bytes) -> str:
    """Return the mark of some bytes.

    :raises OSError: if the user's key can neither be read nor made
    """
    return hmac.new(_key(), content, hashlib.sha256).hexdigest()


def is_sealed(content: bytes, mark: str) -> bool:
    """Whether a mark was made of these bytes by this user on this machine."""
    try:
        return hmac.compare_digest(seal(content), mark)
    except OSError:
        return False


def _key() -> bytes:
    """The user's key, made on first use."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    file = Path(home) / "farl" / "key"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = file.with_name(f".key.{secrets.token_hex(8)}")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(_SIZE))
        with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
            os.link(unfinished, file)
        unfinished.unlink()
    key = file.read_bytes()
    if len(key) != _SIZE:
        raise OSError(f"{file} is damaged: remove it, and a new one will be made")
    return key
