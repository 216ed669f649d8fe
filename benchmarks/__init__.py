"""One module per claim in the README, all run in the same way: see ``benchmarks.harness``."""

import farl  # noqa: F401  (before Stable-Baselines3, so that the old gym keeps quiet)
