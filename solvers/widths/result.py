"""Results of the width problem. Only the gate (`gate`) makes one."""

from __future__ import annotations

from dataclasses import dataclass, field

from problems.showing.reprs import shown, shown_as
from problems.widths.certificates import BoundCertificate
from problems.widths.problem import WidthProblem
from solvers.common.result import Status
from solvers.showing.cards import width_card


@shown
@dataclass(frozen=True)
class WidthProgress:
    """What a search knows while it runs.

    Attributes
    ----------
    loss
        Loss of the best choice so far; None if there is none.
    bound
        No choice within the budget has a smaller loss.
    choice
        The best choice so far.
    """

    loss: int | None
    bound: int
    choice: tuple[int, ...] | None

    def __str__(self) -> str:
        best = "nothing within the budget yet" if self.loss is None else f"loss {self.loss}"
        return f"{best}, bound {self.bound}"


@shown_as(width_card)
@dataclass(frozen=True)
class WidthResult:
    """One width per block, with its figures.

    Attributes
    ----------
    problem
        The solved problem.
    choice
        Per block the index of its width.
    loss
        Units of loss, computed again from the problem.
    time
        Nanoseconds of the whole network, computed again from the problem; at most the budget.
    bound
        No choice within the budget has a smaller loss. 0 if the method proves nothing.
    status
        `Status.OPTIMAL` if the bound equals the loss, else `Status.FEASIBLE`.
    method
        The method that found it.
    seconds
        How long it took.
    certificate
        Weights that prove a bound, which `problems.widths.certificates.check_certificate` checks; None from methods
        without multipliers. `bound` may be larger: searches behind it have no certificate.
    """

    problem: WidthProblem = field(repr=False)
    choice: tuple[int, ...]
    loss: int
    time: int
    bound: int
    status: Status
    method: str
    seconds: float
    certificate: BoundCertificate | None = None

    @property
    def widths(self) -> dict[str, int]:
        """Widths in channels by block name."""
        return self.problem.widths_of(self.choice)

    @property
    def gap(self) -> float:
        """How far the loss may be above the least one, as a share of the loss; 0 if it is optimal."""
        return (self.loss - self.bound) / self.loss if self.loss else 0.0

    @property
    def speedup(self) -> float:
        """The time before pruning divided by the time."""
        return self.problem.evaluate(self.choice).speedup

    def __str__(self) -> str:
        return (
            f"{self.method}: loss {self.loss} {self.status}, at most {100 * self.gap:.3g} % above the least, "
            f"{self.time} of {self.problem.budget} ns, speedup {self.speedup:.4g}"
        )
