"""The commands for many runs: ``sweep``, ``compare``, ``export``, ``push``. Heavy imports wait until one is used."""
