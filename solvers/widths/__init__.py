"""Solvers of the width problem: Lagrangian bounds by elimination, exact labels, an oracle, and published baselines."""
