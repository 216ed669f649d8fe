"""Many runs of an experiment: seeds and grids, searches and populations, on this machine or on a cluster."""
