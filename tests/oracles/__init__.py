"""Witnesses: exact solvers that share no reasoning with those of the product, for tests and `benchmarks.agreement`.

They are not part of the package. `register_witnesses` makes them known by name, as users do with their own; before it
is called, `solve` knows nothing of them.
"""

from oracles.cp_sat_direct import CpSatDirect
from oracles.cp_sat_events import CpSatEvents
from oracles.milp import Milp
from oracles.placed_sets import PlacedSets
from solvers import register, solver_names

__all__ = ["CpSatDirect", "CpSatEvents", "Milp", "PlacedSets", "register_witnesses"]


def register_witnesses() -> None:
    """Make the witnesses known by name; those that are known already stay."""
    for solver in (PlacedSets, CpSatDirect, CpSatEvents, Milp):
        if solver.name not in solver_names():
            register(solver.name, solver)
