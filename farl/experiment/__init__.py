"""Experiments: a checked YAML configuration becomes a run directory with logs, checkpoints, pictures and metrics."""
