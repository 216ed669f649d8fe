"""One YAML file per experiment that can be run by its name: ``farl train quickstart``."""
