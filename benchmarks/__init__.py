"""Benchmarks: each module is one command, ``python -m benchmarks.NAME``. All results are kept in ``results/``.

This includes results in which this package is the slower one."""
