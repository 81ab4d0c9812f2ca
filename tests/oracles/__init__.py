"""Witnesses: exact solvers that share no reasoning with those of the product, for tests and `benchmarks.agreement`.

They are not part of the package. Importing this one makes them known by name, as users do with their own
(`solvers.register`); where it is not imported, `solve` knows nothing of them.
"""

from oracles.cp_sat_direct import CpSatDirect
from oracles.cp_sat_events import CpSatEvents
from oracles.milp import Milp
from oracles.placed_sets import PlacedSets
from solvers import register

__all__ = ["CpSatDirect", "CpSatEvents", "Milp", "PlacedSets"]

for _solver in (PlacedSets, CpSatDirect, CpSatEvents, Milp):
    register(_solver.name, _solver)
