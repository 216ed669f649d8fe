"""One module per claim in the README, all run in the same way: see ``benchmarks.harness``."""
