"""How `problems/library/` is made, and its best-known solutions improved: ``python -m benchmarks.library``."""
