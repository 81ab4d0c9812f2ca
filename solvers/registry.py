"""The solvers by name: what `solve` and the command line accept.

A name stands for a factory that makes a solver with its default configuration; users may add their own.
"""

from __future__ import annotations

from collections.abc import Callable

from solvers.common.arguments import require_settings
from solvers.common.errors import SolverError
from solvers.common.task import Solver
from solvers.methods.beam import Beam
from solvers.methods.brute_force import BruteForce
from solvers.methods.cp_sat import CpSat
from solvers.methods.greedy import Greedy
from solvers.methods.identity import Identity
from solvers.methods.local_search import LocalSearch
from solvers.methods.neighbourhoods import LargeNeighbourhoods
from solvers.methods.pair_of_chains import PairOfChains
from solvers.roads.auto import Auto

_FACTORIES: dict[str, Callable[[], Solver]] = {
    "identity": Identity,
    "greedy": Greedy,
    "brute-force": BruteForce,
    "pair-of-chains": PairOfChains,
    "cp-sat": CpSat,
    "local-search": LocalSearch,
    "beam": Beam,
    "lns": LargeNeighbourhoods,
    "auto": Auto,
}


def register(name: str, factory: Callable[[], Solver]) -> None:
    """Make a solver known under a name.

    Parameters
    ----------
    name
        What users type.
    factory
        Called without arguments; returns an object with `name`, `exact` and ``solve(task)``, see `solvers.common.task`.

    Raises
    ------
    SolverError
        If the name is taken.
    """
    require_settings(name=name, factory=factory)
    if name in _FACTORIES:
        raise SolverError(f"there is a solver {name!r} already; register yours under another name")
    _FACTORIES[name] = factory


def solver_names() -> tuple[str, ...]:
    """Names that `solve` accepts, in order of registration.

    Examples
    --------
    >>> solver_names()[:4]
    ('identity', 'greedy', 'brute-force', 'pair-of-chains')
    """
    return tuple(_FACTORIES)


def solver_named(solver: str | Solver) -> Solver:
    """The solver of a name with its default configuration; a configured solver passes through.

    Raises
    ------
    SolverError
        If no solver has that name; the message lists those there are.
    """
    if not isinstance(solver, str):
        if isinstance(solver, type) or not all(hasattr(solver, part) for part in ("name", "exact", "solve")):
            raise SolverError(f"the solver is {solver!r:.80}; give a name or a configured solver, such as CpSat()")
        return solver
    if solver not in _FACTORIES:
        raise SolverError(f"there is no solver {solver!r}; choose one of {', '.join(_FACTORIES)}")
    return _FACTORIES[solver]()
