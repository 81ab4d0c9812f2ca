"""Choosing a sparsity per layer for a budget of time: the problem, its levels, and its tables of times."""
