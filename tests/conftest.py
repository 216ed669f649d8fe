"""What all tests share."""

import os

# One thread a process: with pytest-xdist the processes are the parallelism, and tiny tensors gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
