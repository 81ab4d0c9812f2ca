"""What an allocation is: the level of every layer, and what that takes and errs. Made by the gate (`gate`) alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from problems import AllocationProblem
from solvers.common.result import Status


@dataclass(frozen=True)
class Allocation:
    """One level per layer, with what is known about it.

    Attributes
    ----------
    problem
        What was solved.
    levels
        Per layer the index of its level.
    error
        Units of error, together, computed anew from the problem.
    time
        Seconds of the layers, together, from the problem's own times; no more than the budget.
    budget
        Seconds that the layers may take.
    speedup
        The dense model's time by the model's time under these levels, fixed time included.
    status
        `Status.OPTIMAL`: no choice errs less with times rounded up to buckets. `Status.FEASIBLE`: rounding up leaves
        no choice though seconds do, and these are the fastest levels.
    method
        Which one found it.
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
        """Sparsities by name of the layer; see `problems.write_sparsity_profile`."""
        return self.problem.profile(self.levels)

    def __str__(self) -> str:
        return (
            f"{self.method}: error {self.error} {self.status}, speedup {self.speedup:.4g}, "
            f"{self.time:.6g} of {self.budget:.6g} s for {len(self.levels)} layers"
        )
