"""What a search for widths knows: the best choice and the best bound. Improvements are reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from problems import UnreachableSpeedupError
from problems.widths.certificates import BoundCertificate
from problems.widths.problem import WidthProblem
from solvers.common.errors import SolverError
from solvers.widths.result import WidthProgress


class WidthIncumbent:
    """Starts without a choice and with the bound 0, and only ever improves.

    Attributes
    ----------
    problem
        The problem.
    choice, loss
        The best choice within the budget and its loss; None before there is one.
    bound
        No choice within the budget has a smaller loss.
    certificate
        Weights that prove a part of the bound, or None.
    seed
        For random decisions of a method.
    """

    def __init__(
        self,
        problem: WidthProblem,
        *,
        deadline: float,
        seed: int = 0,
        progress: Callable[[WidthProgress], object] | None = None,
    ) -> None:
        self.problem, self.seed = problem, seed
        self.choice: tuple[int, ...] | None = None
        self.loss: int | None = None
        self.bound = 0
        self.certificate: BoundCertificate | None = None
        self._deadline, self._progress = deadline, progress

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.perf_counter()

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.remaining <= 0

    @property
    def closed(self) -> bool:
        """Whether the bound meets the loss."""
        return self.loss == self.bound

    def offer(self, choice: Sequence[int]) -> bool:
        """Take a choice if it keeps the budget and has less loss; says whether it was taken."""
        totals = self.problem.evaluate(choice)
        if totals.time > self.problem.budget or (self.loss is not None and totals.loss >= self.loss):
            return False
        self.choice, self.loss = self.problem.require_choice(choice), totals.loss
        self._require_consistent()
        self._report()
        return True

    def raise_bound(self, bound: int, certificate: BoundCertificate | None = None) -> None:
        """Take a proven bound on every choice within the budget if it is better."""
        if certificate is not None and (self.certificate is None or certificate.bound > self.certificate.bound):
            self.certificate = certificate
        if bound > self.bound:
            self.bound = bound
            self._require_consistent()
            self._report()

    def unreachable(self, least_time: int) -> UnreachableSpeedupError:
        """The error for a budget that no choice keeps, where none takes less than `least_time` nanoseconds."""
        base, budget = self.problem.base, self.problem.budget
        return UnreachableSpeedupError(
            base / budget if budget else float("inf"), base / least_time if least_time else float("inf")
        )

    def _require_consistent(self) -> None:
        if self.loss is not None and self.bound > self.loss:
            raise SolverError(
                f"{self.problem.name}: a search says that no loss is below {self.bound}, but a choice has {self.loss}; "
                "please report this with the problem"
            )

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(WidthProgress(self.loss, self.bound, self.choice))
