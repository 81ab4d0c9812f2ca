"""Checks of solutions, bounds and proofs, by code that is independent of the solvers."""
