"""How ordering problems are solved: `solve` and the solvers behind it (NumPy; OR-Tools only when it is used).

The public names below are imported on first use, so that a command that only prints its help loads neither SciPy nor
any solver. Beside them stand four other problems: a sparsity per layer (`allocate`, `search_allocation`), a width per
block (`choose_widths`), windows of a stream (`choose_windows`), and kept sets with their order (`choose_jointly`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.allocation.coefficient_search import SearchProgress, SearchResult, search_allocation
    from solvers.allocation.dispatch import ALLOCATION_METHODS, allocate
    from solvers.allocation.result import Allocation
    from solvers.common.bounds import trivial_bound
    from solvers.common.errors import SolverError
    from solvers.common.result import Progress, Result, SolveInterrupted, Status, StopReason, TrajectoryPoint
    from solvers.common.statistics import STATISTICS
    from solvers.common.stopping import (
        AllOf,
        AnyOf,
        Cutoff,
        GapLimit,
        NoImprovement,
        Standing,
        StopRule,
        TargetValue,
        TimeLimit,
        WorkLimit,
    )
    from solvers.common.task import Finding, Solver, Task
    from solvers.dispatch import solve
    from solvers.joint.dispatch import JOINT_METHODS, choose_jointly, joint_bound
    from solvers.joint.result import JointInterrupted, JointProgress, JointResult
    from solvers.lexicographic import LexicographicResult, solve_lexicographic
    from solvers.methods.beam import Beam
    from solvers.methods.brute_force import BruteForce
    from solvers.methods.cp_sat import CpSat
    from solvers.methods.greedy import Greedy, greedy_order
    from solvers.methods.identity import Identity
    from solvers.methods.local_search import LocalSearch
    from solvers.methods.neighbourhoods import LargeNeighbourhoods
    from solvers.methods.pair_of_chains import PairOfChains
    from solvers.programs.written_models import WrittenModel, write_model
    from solvers.registry import register, solver_names
    from solvers.result_files import read_result, write_result
    from solvers.roads.auto import Auto
    from solvers.widths.dispatch import WIDTH_METHODS, choose_widths, least_time
    from solvers.widths.result import WidthProgress, WidthResult
    from solvers.windows.dispatch import WINDOW_METHODS, choose_windows, windows_bound
    from solvers.windows.result import WindowProgress, WindowResult

_HOMES = {
    "allocation.coefficient_search": ("SearchProgress", "SearchResult", "search_allocation"),
    "allocation.dispatch": ("ALLOCATION_METHODS", "allocate"),
    "allocation.result": ("Allocation",),
    "common.bounds": ("trivial_bound",),
    "common.errors": ("SolverError",),
    "common.result": ("Progress", "Result", "SolveInterrupted", "Status", "StopReason", "TrajectoryPoint"),
    "common.statistics": ("STATISTICS",),
    "common.stopping": (
        "AllOf",
        "AnyOf",
        "Cutoff",
        "GapLimit",
        "NoImprovement",
        "Standing",
        "StopRule",
        "TargetValue",
        "TimeLimit",
        "WorkLimit",
    ),
    "common.task": ("Finding", "Solver", "Task"),
    "dispatch": ("solve",),
    "joint.dispatch": ("JOINT_METHODS", "choose_jointly", "joint_bound"),
    "joint.result": ("JointInterrupted", "JointProgress", "JointResult"),
    "lexicographic": ("LexicographicResult", "solve_lexicographic"),
    "methods.beam": ("Beam",),
    "methods.brute_force": ("BruteForce",),
    "methods.cp_sat": ("CpSat",),
    "methods.greedy": ("Greedy", "greedy_order"),
    "methods.identity": ("Identity",),
    "methods.local_search": ("LocalSearch",),
    "methods.neighbourhoods": ("LargeNeighbourhoods",),
    "methods.pair_of_chains": ("PairOfChains",),
    "programs.written_models": ("WrittenModel", "write_model"),
    "registry": ("register", "solver_names"),
    "result_files": ("read_result", "write_result"),
    "roads.auto": ("Auto",),
    "widths.dispatch": ("WIDTH_METHODS", "choose_widths", "least_time"),
    "widths.result": ("WidthProgress", "WidthResult"),
    "windows.dispatch": ("WINDOW_METHODS", "choose_windows", "windows_bound"),
    "windows.result": ("WindowProgress", "WindowResult"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ALLOCATION_METHODS",
    "JOINT_METHODS",
    "STATISTICS",
    "WIDTH_METHODS",
    "WINDOW_METHODS",
    "AllOf",
    "Allocation",
    "AnyOf",
    "Auto",
    "Beam",
    "BruteForce",
    "CpSat",
    "Cutoff",
    "Finding",
    "GapLimit",
    "Greedy",
    "Identity",
    "JointInterrupted",
    "JointProgress",
    "JointResult",
    "LargeNeighbourhoods",
    "LexicographicResult",
    "LocalSearch",
    "NoImprovement",
    "PairOfChains",
    "Progress",
    "Result",
    "SearchProgress",
    "SearchResult",
    "SolveInterrupted",
    "Solver",
    "SolverError",
    "Standing",
    "Status",
    "StopReason",
    "StopRule",
    "TargetValue",
    "Task",
    "TimeLimit",
    "TrajectoryPoint",
    "WidthProgress",
    "WidthResult",
    "WindowProgress",
    "WindowResult",
    "WorkLimit",
    "WrittenModel",
    "allocate",
    "choose_jointly",
    "choose_widths",
    "choose_windows",
    "greedy_order",
    "joint_bound",
    "least_time",
    "read_result",
    "register",
    "search_allocation",
    "solve",
    "solve_lexicographic",
    "solver_names",
    "trivial_bound",
    "windows_bound",
    "write_model",
    "write_result",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
