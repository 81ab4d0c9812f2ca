"""The best known solution of a problem that one holds: the library's instance is found by its content, not its name."""

from __future__ import annotations

from problems.collection import LIBRARY, Collection
from problems.conversions import of_kind
from problems.objectives import OBJECTIVES, Objective, objective_named
from problems.problem import Problem
from problems.signatures import content_hash
from problems.solutions import Solution


def names_of(problem: Problem, library: Collection = LIBRARY) -> tuple[str, ...]:
    """The names under which a library has a problem: those of the same content hash, in the order of its index.

    Examples
    --------
    >>> from problems.collection import load
    >>> names_of(load("classical/random/8x8-s0"))
    ('classical/random/8x8-s0',)
    """
    own = content_hash(of_kind(problem, Problem, "the problem"))
    return tuple(name for name, entry in library.entries.items() if entry.hash == own)


def best_known_of(
    problem: Problem, objective: str | Objective = "copies", library: Collection = LIBRARY
) -> Solution | None:
    """The best known solution of a problem, if a library has the problem under any name.

    Its order is one of the library's instance: if the channels of the problem are in another order, so is that of the
    solution. Its value and bound hold for both.

    Parameters
    ----------
    problem
        The problem.
    objective
        Name, or an `Objective`. Objectives of a user's own have no best known values.
    library
        Where to look. Default: the library of the package.

    Returns
    -------
    Solution or None
        The one of least value; None if there is none.

    Raises
    ------
    ProblemError
        If the objective is unknown, or a file of the library is wrong.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> from problems.collection import load
    >>> best_known_of(random_masks(16, 3, seed=123456)) is None
    True
    >>> best_known_of(load("classical/random/8x8-s0"), "span").proven
    True
    """
    goal = objective_named(objective)
    if OBJECTIVES.get(goal.name) != goal:
        return None
    found = [library.solutions(name).get(goal.name) for name in names_of(problem, library)]
    return min((own for own in found if own is not None), key=lambda own: own.value, default=None)
