"""The best multiplier: the Lagrangian bound of a graph, and the assignments met on the way.

For a multiplier m at least 0, ``min over assignments of loss + m * (time - budget)`` is at most the least loss within
the budget. The bound is concave in m, and linear between few points. The search goes from intersection to intersection
of the two lines known nearest to the top, so it ends at the top after few eliminations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from solvers.widths.elimination import INFINITE, Elimination, Tree, Weights
from solvers.widths.factors import totals_of

MAX_ROUNDS = 60  # eliminations: at most; a dozen are usual

Places = list[int]


@dataclass(frozen=True, eq=False)
class Dual:
    """What the search for the multiplier found.

    Attributes
    ----------
    bound
        No assignment within the budget has a smaller loss. None: there is no assignment within the budget.
    best
        The elimination at the best multiplier.
    multiplier
        The best multiplier; units of loss per nanosecond.
    fastest
        Least time of an assignment, in nanoseconds without the fixed ones.
    """

    bound: int | None
    best: Elimination
    multiplier: Fraction
    fastest: int


def dual_of(
    tree: Tree,
    budget: int,
    *,
    offer: Callable[[Places], None] | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
    enough: int | None = None,
) -> Dual:
    """Search for the best multiplier.

    Parameters
    ----------
    tree
        The graph and its buckets.
    budget
        Nanoseconds, without the fixed ones.
    offer
        Called with every assignment of least cost that was met, whether it keeps the budget or not.
    out_of_time
        Asked before every elimination but the first two. If it says so, the best multiplier so far is returned.
    enough
        Stop once the bound is above this.
    """
    search = _Search(tree, budget, offer or (lambda places: None))
    fastest = search.at(None)
    if fastest.least >= INFINITE:
        return Dual(None, fastest, Fraction(0), INFINITE)
    fast_loss, fast_time = search.totals
    if fast_time > budget:
        return Dual(None, fastest, Fraction(0), fast_time)
    best = search.at(Fraction(0))
    slow_loss, slow_time = search.totals
    multiplier, bound, least_time = Fraction(0), search.bound(best), fast_time
    for _ in range(MAX_ROUNDS):
        if slow_time <= budget or fast_loss <= slow_loss or out_of_time() or (enough is not None and bound > enough):
            break
        tried = Fraction(fast_loss - slow_loss, slow_time - fast_time)
        found = search.at(tried)
        loss, time = search.totals
        if found.weights.loss and search.bound(found) >= bound:
            best, bound, multiplier = found, search.bound(found), tried
        weights = found.weights
        if found.least >= min(weights.cost(slow_loss, slow_time), weights.cost(fast_loss, fast_time)):
            break
        if time <= budget:
            fast_loss, fast_time = loss, time
        else:
            slow_loss, slow_time = loss, time
    return Dual(bound, best, multiplier, least_time)


class _Search:
    """Eliminations at several multipliers; keeps the totals of the last."""

    def __init__(self, tree: Tree, budget: int, offer: Callable[[Places], None]) -> None:
        self._tree, self._budget, self._offer = tree, budget, offer
        self.totals = (0, 0)

    def at(self, multiplier: Fraction | None) -> Elimination:
        """The elimination at a multiplier (None: time alone). Its assignment is offered."""
        found = Elimination(self._tree, Weights(self._tree.graph, multiplier))
        if found.least < INFINITE:
            places = found.assignment()
            self.totals = totals_of(self._tree.graph, places)
            self._offer(places)
        return found

    def bound(self, found: Elimination) -> int:
        """The bound in whole units of loss: the true one, rounded up."""
        return bound_of(found, self._budget)


def bound_of(found: Elimination, budget: int) -> int:
    """No assignment within the budget has a smaller loss. Losses are whole, so the quotient is rounded up, exactly."""
    weights = found.weights
    if weights.loss == 0:
        return 0
    return max(0, -((weights.time * budget - found.least) // weights.loss))
