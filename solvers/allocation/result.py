"""An allocation: the level of every layer, with its time and error. Only the gate (`gate`) makes one."""

from __future__ import annotations

from dataclasses import dataclass, field

from problems import AllocationProblem
from problems.showing.reprs import shown_as
from solvers.common.result import Status
from solvers.showing.cards import allocation_card


@shown_as(allocation_card)
@dataclass(frozen=True)
class Allocation:
    """One level per layer, with its figures.

    Attributes
    ----------
    problem
        The solved problem.
    levels
        Per layer the index of its level.
    error
        Units of error of all layers together, computed again from the problem.
    time
        Seconds of all layers together, from the problem's own times; at most the budget.
    budget
        Seconds that the layers may take.
    speedup
        The dense model's time divided by the model's time under these levels. Both include the fixed time.
    status
        `Status.OPTIMAL`: no choice has a smaller error, with times rounded up to buckets. `Status.FEASIBLE`: no choice
        fits after rounding up, but the fastest levels fit in seconds; these are the fastest levels.
    method
        The method that found it.
    """

    problem: AllocationProblem = field(repr=False)
    levels: tuple[int, ...]
    error: int
    time: float
    budget: float
    speedup: float
    status: Status
    method: str

    @property
    def profile(self) -> dict[str, float]:
        """Sparsities by layer name; see `problems.write_sparsity_profile`."""
        return self.problem.profile(self.levels)

    def __str__(self) -> str:
        return (
            f"{self.method}: error {self.error} {self.status}, speedup {self.speedup:.4g}, "
            f"{self.time:.6g} of {self.budget:.6g} s for {len(self.levels)} layers"
        )
