"""Solvers of the allocation problem: three exact methods, and the search over error coefficients."""
