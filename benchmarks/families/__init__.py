"""A page per family of the instance library, with cost against time: ``python -m benchmarks.families``."""
