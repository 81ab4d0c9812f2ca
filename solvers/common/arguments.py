"""What the arguments of `solvers.solve` and its kind must be: checked before any work starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from problems import AllocationProblem, JointProblem, Objective, Order, Problem, WindowProblem
from solvers.common.errors import SolverError
from solvers.common.result import Result


def require_problem(problem: Any, kind: type = Problem) -> None:
    """Raise unless it is a problem.

    Raises
    ------
    SolverError
        If it is something else.
    """
    if not isinstance(problem, kind):
        made = _MAKERS[kind]
        raise SolverError(f"problem is {_described(problem)}; give a problems.{kind.__name__} ({made})")


def require_settings(**settings: Any) -> None:
    """Raise unless every setting is of its kind: ``time_limit``, ``seed``, ``hint``, ``progress`` and others.

    Raises
    ------
    SolverError
        If one is not; the message names it.
    """
    for name, value in settings.items():
        remedy, fits = _KINDS[name]
        if not fits(value):
            raise SolverError(f"{name} is {_described(value)}; give {remedy}")


def _described(value: Any) -> str:
    if value is None or isinstance(value, (str, bool, int, float)):
        return repr(value)
    return f"of type {type(value).__name__}"


def _is_solver(value: Any) -> bool:
    made = hasattr(value, "exact") and callable(getattr(value, "solve", None)) and not isinstance(value, type)
    return isinstance(value, str) or made


def _are_orders(value: Any) -> bool:
    return isinstance(value, Order) or (
        isinstance(value, (list, tuple)) and all(isinstance(own, Order) for own in value)
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


_MAKERS = {
    Problem: "problems.read_instance",
    AllocationProblem: "problems.allocation_problem",
    WindowProblem: "problems.read_windows",
    JointProblem: "problems.read_joint",
}

_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "time_limit": (
        "a time limit in seconds, more than 0",
        lambda own: isinstance(own, Real) and not isinstance(own, bool) and float(own) > 0,
    ),
    "deadline": (
        "a reading of time.perf_counter in seconds",
        lambda own: isinstance(own, Real) and not isinstance(own, bool),
    ),
    "objective": ("the name of an objective or a problems.Objective", lambda own: isinstance(own, (str, Objective))),
    "solver": ("the name of a solver, or a configured solver", _is_solver),
    "seed": ("a whole number of at least 0", lambda own: _is_whole(own) and own >= 0),
    "hint": ("a problems.Order, or several in a list", lambda own: own is None or _are_orders(own)),
    "lower_bound": ("a whole number, or None", lambda own: own is None or _is_whole(own)),
    "workers": ("a whole number of at least 1, or None", lambda own: own is None or (_is_whole(own) and own >= 1)),
    "stop": ("a rule such as GapLimit(0.01), or None", lambda own: own is None or callable(own)),
    "log": ("True, False, or a function of a line", lambda own: isinstance(own, bool) or callable(own)),
    "resume": (
        "a Result, or the path of a file of one",
        lambda own: own is None or isinstance(own, (str, os.PathLike, Result)),
    ),
    "progress": (
        "None, True, False or a function",
        lambda own: own is None or isinstance(own, bool) or callable(own),
    ),
    "proof": ("True or False", lambda own: isinstance(own, bool)),
    "method": ("the name of a method", lambda own: isinstance(own, str)),
    "score": ("a function", callable),
    "rng": ("a numpy.random.Generator", lambda own: hasattr(own, "random") and hasattr(own, "integers")),
    "num_buckets": ("a whole number of at least 1", lambda own: _is_whole(own) and own >= 1),
    "max_expansions": ("a whole number of at least 0", lambda own: _is_whole(own) and own >= 0),
    "num_random": ("a whole number", _is_whole),
    "patience": ("a whole number", _is_whole),
    "share": ("a number in [0, 1]", lambda own: isinstance(own, Real) and not isinstance(own, bool)),
    "name": ("a name", lambda own: isinstance(own, str) and bool(own)),
    "factory": ("a function without arguments that makes a solver", callable),
}
