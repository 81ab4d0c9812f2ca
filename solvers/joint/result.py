"""What `choose_jointly` returns. Only the gate (`solvers.joint.gate`) makes one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from problems import Order, Problem
from problems.joint.decision import JointChoice, JointTotals
from problems.joint.files import JointSolution
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointProof
from problems.showing.reprs import shown
from solvers.common.result import Status, StopReason, TrajectoryPoint, gap_between


@shown
@dataclass(frozen=True)
class JointProgress:
    """What is known while a method runs.

    Attributes
    ----------
    seconds
        Since the start.
    value
        Of the best choice so far.
    bound
        No choice has a smaller value; None while nothing is known.
    choice
        The best choice so far.
    method
        The step that found out.
    """

    seconds: float
    value: int
    bound: int | None
    choice: JointChoice
    method: str

    def __str__(self) -> str:
        return f"best {self.value}" if self.bound is None else f"best {self.value}, bound {self.bound}"

    @property
    def gap(self) -> float | None:
        """``(value - bound) / max(1, value)``; None without a bound."""
        return gap_between(self.value, self.bound)


@shown
@dataclass(frozen=True, eq=False)
class JointResult:
    """A choice, with what is known about it.

    Attributes
    ----------
    problem
        The problem.
    choice
        Kept sets, and an order of the stored channels.
    totals
        Cost, loss, price and value, from `problems.joint.decision.evaluate_joint`.
    bound
        No choice has a smaller value.
    gap
        ``(value - bound) / max(1, value)``.
    status
        `Status.OPTIMAL` if the bound meets the value.
    proof
        Why the bound holds: `problems.checker.joint_checks` checks it.
    method
        The method that was asked for.
    seconds
        How long it took.
    stop_reason
        Why it ended.
    trajectory
        Every improvement of value or bound. The last point has those of the result.
    seed
        The seed that was given.
    stats
        Figures of the methods that ran; `solvers.STATISTICS` says what they are.
    """

    problem: JointProblem = field(repr=False)
    choice: JointChoice
    totals: JointTotals
    status: Status
    proof: JointProof
    method: str
    seconds: float
    stop_reason: StopReason
    trajectory: tuple[TrajectoryPoint, ...] = field(default=(), repr=False)
    seed: int = 0
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> int:
        """The value of the choice."""
        return self.totals.value

    @property
    def bound(self) -> int:
        """No choice has a smaller value."""
        return self.proof.bound

    @property
    def gap(self) -> float:
        """``(value - bound) / max(1, value)``."""
        return (self.value - self.bound) / max(1, self.value)

    @property
    def order(self) -> Order:
        """The order of the stored channels."""
        return self.choice.order

    @property
    def kept(self) -> tuple[np.ndarray, ...]:
        """Per access the input positions that it keeps, Boolean."""
        return self.choice.kept

    @property
    def ordering(self) -> Problem:
        """The ordering problem of the kept sets, for `problems.evaluate` and for exports."""
        return self.problem.with_kept(self.kept)

    @property
    def solution(self) -> JointSolution:
        """What a solution file holds (`problems.write_joint_solution`)."""
        return JointSolution(self.choice, self.value, self.proof, self.method)

    def __str__(self) -> str:
        return (
            f"{self.method}: value {self.value} {self.status} (bound {self.bound}, gap {self.gap:.1%}) in "
            f"{self.seconds:.2f} s; {self.problem.objective.name} {self.totals.cost}, loss {self.totals.loss}, price "
            f"{self.totals.price}"
        )


class JointInterrupted(KeyboardInterrupt):
    """Ctrl-C during `solvers.choose_jointly`: a `KeyboardInterrupt` that brings what was found until then.

    Attributes
    ----------
    result
        The best choice so far, with the best bound.
    """

    def __init__(self, result: JointResult) -> None:
        super().__init__(f"interrupted; the best so far is {result}")
        self.result = result
