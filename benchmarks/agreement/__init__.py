"""Do all solvers agree with each other and with an evaluator of their own: ``python -m benchmarks.agreement``."""
