"""Benchmarks: each module is one command, ``python -m benchmarks.NAME``; results, losses included, in ``results/``."""
