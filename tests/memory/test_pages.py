import subprocess
import sys

import pytest

_HOLES = """
import numpy as np, psutil
from farl.memory.pages import give_back_free_memory
def held(): return psutil.Process().memory_info().rss / 2**20
blocks = [np.ones(8_000) for _ in range(2_000)]  # 122 MiB in pieces that the allocator keeps
kept = blocks[::2]
del blocks
before = held()
give_back_free_memory()
print(before - held())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked for it")
def test_what_was_freed_between_things_that_stay_goes_back_to_the_system():
    run = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    assert float(run.stdout) > 40
