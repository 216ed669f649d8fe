"""No file of at most 10 MB takes more than a gigabyte or ten seconds, whatever it claims to hold."""

import io
import os
import resource
import sys
import zipfile
import zlib

import numpy as np
import pytest

from farl.envs.map_world import load_maps
from farl.errors import ConfigError

MEGABYTE = 1_000_000


def ragged_text(path):
    path.write_text("." * 5_000_000 + "\n" * 400 + "\n".join(["."] * 400))


def tall_text(path):
    path.write_text(".\n" * 4_900_000)


def inflating_archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big.npy", "w") as stream:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|b1", "fortran_order": False, "shape": (50_000, 60_000)})
        stream.write(head.getvalue())
        for _ in range(250):
            stream.write(bytes(MEGABYTE))


def many_maps(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.save(head, np.zeros((1_900, 1_900), np.int8))
        for i in range(20):
            archive.writestr(f"{i}.npy", head.getvalue())


def long_header(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("big.npy", "w") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + (240_000_000).to_bytes(4, "little"))
        for _ in range(250):
            stream.write(b" " * MEGABYTE)


def boastful_array(path):
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "<i8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
        )


def huge_picture(path):
    rows = zlib.compress(bytes(40_001) * 4)

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (40_000).to_bytes(4, "big") * 2
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x00\x00\x00\x00")
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def nested_yaml(path):
    path.write_text("image: " + "[" * 500_000)


HOSTILE = {
    "ragged.txt": ragged_text,
    "tall.txt": tall_text,
    "inflating.npz": inflating_archive,
    "many.npz": many_maps,
    "header.npz": long_header,
    "boastful.npy": boastful_array,
    "huge.png": huge_picture,
    "nested.yaml": nested_yaml,
}


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_claims_too_much_is_refused_in_time_and_memory(tmp_path, name):
    path = tmp_path / name
    HOSTILE[name](path)
    assert path.stat().st_size <= 10 * MEGABYTE
    child = os.fork()  # whose memory is measured from its birth
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
        try:
            load_maps(path)
        except ConfigError as error:
            os._exit(0 if all(len(line) <= 300 and "\n" not in line for line in error.problems) else 1)
        finally:
            os._exit(2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, status, usage = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert usage.ru_maxrss - before < MEGABYTE  # both in kilobytes
    assert usage.ru_utime + usage.ru_stime < 10
