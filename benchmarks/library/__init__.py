"""Makes `problems/library/` and improves its best-known solutions: ``python -m benchmarks.library``."""
