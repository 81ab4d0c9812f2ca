"""How ordering problems are solved: `solve` and the solvers behind it (NumPy; OR-Tools only when it is used).

Beside them stands the choice of a sparsity per layer: `allocate` and `search_allocation`.
"""

from solvers.allocation.coefficient_search import SearchProgress, SearchResult, search_allocation
from solvers.allocation.dispatch import ALLOCATION_METHODS, allocate
from solvers.allocation.result import Allocation
from solvers.common.bounds import trivial_bound
from solvers.common.errors import SolverError
from solvers.common.result import Progress, Result, SolveInterrupted, Status
from solvers.common.task import Finding, Solver, Task
from solvers.dispatch import solve
from solvers.methods.beam import Beam
from solvers.methods.brute_force import BruteForce
from solvers.methods.cp_sat import CpSat
from solvers.methods.greedy import Greedy, greedy_order
from solvers.methods.identity import Identity
from solvers.methods.local_search import LocalSearch
from solvers.methods.neighbourhoods import LargeNeighbourhoods
from solvers.methods.pair_of_chains import PairOfChains
from solvers.registry import register, solver_names
from solvers.roads.auto import Auto

__all__ = [
    "ALLOCATION_METHODS",
    "Allocation",
    "Auto",
    "Beam",
    "BruteForce",
    "CpSat",
    "Finding",
    "Greedy",
    "Identity",
    "LargeNeighbourhoods",
    "LocalSearch",
    "PairOfChains",
    "Progress",
    "Result",
    "SearchProgress",
    "SearchResult",
    "SolveInterrupted",
    "Solver",
    "SolverError",
    "Status",
    "Task",
    "allocate",
    "greedy_order",
    "register",
    "search_allocation",
    "solve",
    "solver_names",
    "trivial_bound",
]
