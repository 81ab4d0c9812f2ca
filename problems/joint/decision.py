"""Decisions of the joint problem: the channels that every access keeps, and an order of the stored ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems.conversions import booleans, items, of_kind
from problems.errors import ProblemError
from problems.evaluation import Evaluation, evaluate
from problems.joint.problem import JointProblem
from problems.order import Order
from problems.problem import Problem
from problems.showing.reprs import shown


@shown
@dataclass(frozen=True, eq=False)
class JointChoice:
    """What every access keeps, and the order of the channels that are stored because of it.

    Parameters
    ----------
    order
        One permutation per block, of the stored channels. `problems.Order`, or a list of lists.
    kept
        Per access a Boolean array over its input positions.

    Raises
    ------
    ProblemError
        If an array is of the wrong kind. `require_valid` checks whether the choice fits a problem.
    """

    order: Order
    kept: tuple[np.ndarray, ...]

    def __init__(self, order: Order | Iterable[Sequence[int] | np.ndarray], kept: Iterable[Any]) -> None:
        object.__setattr__(self, "order", order if isinstance(order, Order) else Order(order))
        sets = []
        for own in items(kept, "the kept sets"):
            mask = booleans(own, "a kept set")
            if mask.ndim != 1:
                raise ProblemError(f"a kept set has {mask.ndim} dimensions; give one Boolean per input position")
            mask.flags.writeable = False
            sets.append(mask)
        object.__setattr__(self, "kept", tuple(sets))

    def require_valid(self, problem: JointProblem) -> Problem:
        """The ordering problem of the kept sets, if the choice fits a problem and meets all widths and required sums.

        Raises
        ------
        ProblemError
            If it does not. The message names the access or the block.
        """
        of_kind(problem, JointProblem, "the problem")
        ordering = problem.with_kept(self.kept)
        for access, kept in zip(problem.accesses, self.kept):
            if not access.accepts(kept):
                asked = [] if access.width is None else [f"exactly {access.width} channels"]
                asked += [] if access.required is None else [f"importance of at least {access.required}"]
                raise ProblemError(
                    f"access {access.name!r} keeps {int(kept.sum())} channels of importance "
                    f"{int(access.importance[kept].sum())}; it must keep {' and '.join(asked)}"
                )
        self.order.require_valid(ordering)
        return ordering

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JointChoice):
            return NotImplemented
        return self.order == other.order and [own.tolist() for own in self.kept] == [own.tolist() for own in other.kept]

    def __hash__(self) -> int:
        return hash((self.order, tuple(own.tobytes() for own in self.kept)))

    def __str__(self) -> str:
        return f"{self.order}, kept {' '.join(str(int(own.sum())) for own in self.kept)}"


@shown
@dataclass(frozen=True)
class JointTotals:
    """What a choice costs.

    Attributes
    ----------
    cost
        Of the ordering problem of the kept sets, in units of the objective.
    loss
        Importance that accesses do not keep.
    price
        Prices of kept and of stored channels, in units of loss.
    value
        ``cost_weight * cost + loss_price * loss + price``, which is minimised.
    """

    cost: int
    loss: int
    price: int
    value: int


def evaluate_joint(problem: JointProblem, choice: JointChoice) -> JointTotals:
    """Cost, loss, price and value of a choice: the definition of the objective.

    Raises
    ------
    ProblemError
        If the choice does not fit the problem, or misses a width or a required sum.

    Examples
    --------
    >>> problem = JointProblem.from_importance([[5, 4, 0, 1], [0, 1, 3, 6], [7, 0, 3, 0]], widths=2, units=10)
    >>> sets = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]]
    >>> evaluate_joint(problem, JointChoice([[0, 1, 2, 3]], sets))
    JointTotals(cost=0, loss=9, price=0, value=9)
    """
    ordering = of_kind(choice, JointChoice, "the choice").require_valid(problem)
    cost = evaluation_of(problem, choice, ordering).value
    loss = sum(int(own.importance[~kept].sum()) for own, kept in zip(problem.accesses, choice.kept))
    price = sum(own.price * int(kept.sum()) for own, kept in zip(problem.accesses, choice.kept))
    price += problem.stored_price * ordering.num_stored
    return JointTotals(cost, loss, price, problem.cost_weight * cost + problem.loss_price * loss + price)


def evaluation_of(problem: JointProblem, choice: JointChoice, ordering: Problem | None = None) -> Evaluation:
    """Read mode, span, runs and cost of every access under a choice; errors as in `evaluate_joint`."""
    return evaluate(ordering or choice.require_valid(problem), choice.order, problem.objective)
