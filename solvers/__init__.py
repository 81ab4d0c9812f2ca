"""How ordering problems are solved: `solve` and the solvers behind it (NumPy; OR-Tools only when it is used)."""

from solvers.bounds import trivial_bound
from solvers.brute_force import BruteForce
from solvers.cp_sat import CpSat
from solvers.dispatch import solve
from solvers.errors import SolverError
from solvers.greedy import Greedy, greedy_order
from solvers.identity import Identity
from solvers.pair_of_chains import PairOfChains
from solvers.placed_sets import PlacedSets
from solvers.registry import register, solver_names
from solvers.result import Progress, Result, Status
from solvers.task import Finding, Solver, Task

__all__ = [
    "BruteForce",
    "CpSat",
    "Finding",
    "Greedy",
    "Identity",
    "PairOfChains",
    "PlacedSets",
    "Progress",
    "Result",
    "Solver",
    "SolverError",
    "Status",
    "Task",
    "greedy_order",
    "register",
    "solve",
    "solver_names",
    "trivial_bound",
]
