"""The Lagrangian bound: a subgradient ascent on the multipliers of `problems.joint.relaxation`.

It begins where the relaxation is as good as free sets: the multiplier of a width is the importance at the edge of the
best set of that width. The steps are Polyak's, "Minimization of unsmooth functionals", USSR Comput. Math. Math. Phys. 9
(1969). In the end the multipliers are rounded to whole numbers, and the bound is what `proven_bound` says of those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from problems import ProblemError
from problems.joint.certificates import JointCertificate, proven_bound
from problems.joint.decision import JointChoice
from problems.joint.problem import JointProblem
from problems.joint.relaxation import BlockTerms, Relaxation
from solvers.common.clock import time_now

_MOST_STEPS = 1000  # steps: of the ascent; by hand
_PATIENCE = 12  # steps: without a better bound, after which the step length is halved; by hand
_SHORTEST = 2e-3  # share: of Polyak's step length, at which the ascent ends; by hand
_ROW_STEP = 0.1  # share: of a step that multipliers of widths and sums take, whose slopes are larger; tuned 2026-11-28
_UNITS = (1024, 64, 8, 1)  # per unit of loss: fineness of multipliers; the first with exact sums is taken


@dataclass(frozen=True)
class _Point:
    """Multipliers: of widths, of sums, and potentials per block."""

    widths: np.ndarray
    sums: np.ndarray
    potentials: tuple[np.ndarray, ...]

    def moved(self, slope: _Point, step: float) -> _Point:
        """A step along a slope. Multipliers of sums stay at least 0."""
        return _Point(
            self.widths + step * slope.widths,
            np.maximum(self.sums + step * slope.sums, 0),
            tuple(nu + step * own for nu, own in zip(self.potentials, slope.potentials)),
        )

    @property
    def square(self) -> float:
        """Squared length."""
        parts = (self.widths, self.sums, *self.potentials)
        return float(sum(own @ own for own in parts))


def joint_certificate(
    problem: JointProblem,
    *,
    value: int | None = None,
    choice: JointChoice | None = None,
    deadline: float,
    report: Callable[[int], None] | None = None,
) -> JointCertificate:
    """The best certificate of a bound that is found before the deadline.

    Parameters
    ----------
    problem
        The problem.
    value, choice
        A value that is known, and its choice: the ascent aims at it, and begins near it. Default: none.
    deadline
        A reading of the clock (`solvers.common.clock.time_now`).
    report
        Called with every bound that is certain to be certified.
    """
    relaxation = Relaxation(problem)
    start = _at_free_sets(relaxation)
    best = _certified(relaxation, start)
    if report is not None:
        report(best.bound)
    if problem.num_accesses and (value is None or best.bound < value):
        aim = float(value if value is not None else best.bound + max(1, problem.most_besides // 10))
        if choice is not None:
            start = _near(relaxation, start, choice)
        better = _certified(relaxation, _ascent(relaxation, start, aim, deadline))
        if better.bound > best.bound:
            best = better
            if report is not None:
                report(best.bound)
    return best


def _ascent(relaxation: Relaxation, start: _Point, aim: float, deadline: float) -> _Point:
    """The multipliers of the best bound."""
    point, length, failures = start, 1.0, 0
    best, found = -np.inf, start
    for _ in range(_MOST_STEPS):
        bound, slope = _bound_and_slope(relaxation, point)
        if bound > best:
            best, found, failures = bound, point, 0
        else:
            failures += 1
        square = slope.square
        if best > aim - 1 or square == 0 or length < _SHORTEST or time_now() >= deadline:
            break
        if failures >= _PATIENCE:
            point, length, failures = found, length / 2, 0
            continue
        point = point.moved(slope, length * max(aim - bound, 1e-6) / square)
    return found


def _bound_and_slope(relaxation: Relaxation, point: _Point) -> tuple[float, _Point]:
    problem = relaxation.problem
    total = relaxation.constant(point.widths, point.sums)
    widths = np.array([0.0 if own.width is None else -float(own.width) for own in problem.accesses])
    sums = np.array([0.0 if own.required is None else float(own.required) for own in problem.accesses])
    potentials = []
    for b, nu in enumerate(point.potentials):
        terms = relaxation.terms(b, 1, point.widths, point.sums)
        bound, cells = terms.least(nu)
        total += bound
        gained = terms.table[cells] < nu
        potentials.append((nu < terms.unstored).astype(np.float64) - gained.sum(axis=0))
        for r, reader in enumerate(terms.readers):
            kept = (gained & _keeps(terms, r, cells)).sum(axis=0)
            access = problem.accesses[reader.access]
            if access.width is not None:
                widths[reader.access] += kept.sum()
            if access.required is not None:
                sums[reader.access] -= kept @ access.importance[reader.positions]
    sums[(point.sums <= 0) & (sums < 0)] = 0
    return total, _Point(_ROW_STEP * widths, _ROW_STEP * sums, tuple(potentials))


def _keeps(terms: BlockTerms, r: int, cells: np.ndarray) -> np.ndarray:
    """Whether a reader keeps a channel in each of some cells; Boolean, shape (cells, channels)."""
    if r not in terms.coupled:
        return np.broadcast_to(terms.keeps[0, r], (len(cells), terms.table.shape[1]))
    return terms.keeps[cells >> terms.coupled.index(r) & 1, r]


def _at_free_sets(relaxation: Relaxation) -> _Point:
    """Multipliers for which the relaxation is about as good as free sets."""
    problem = relaxation.problem
    widths, sums = np.zeros((2, problem.num_accesses))
    for a, access in enumerate(problem.accesses):
        sorted_down = np.sort(access.importance)[::-1].astype(np.float64)
        if access.width is not None:
            edge = sorted_down[access.width - 1 : access.width + 1]
            widths[a] = problem.loss_price * edge.mean() - access.price
        elif access.required is not None:
            last = sorted_down[int(access.largest_kept(problem.loss_price)[0].sum()) - 1]
            if last > 0:
                sums[a] = max(0.0, access.price / last - problem.loss_price)
    potentials = []
    for b in range(len(problem.blocks)):
        terms = relaxation.terms(b, 1, widths, sums)
        potentials.append(np.minimum(terms.table.min(axis=0), terms.unstored))
    return _Point(widths, sums, tuple(potentials))


def _near(relaxation: Relaxation, start: _Point, choice: JointChoice) -> _Point:
    """Potentials at which every channel gains nothing in the cell that a choice gives it."""
    problem, potentials = relaxation.problem, []
    for b in range(len(problem.blocks)):
        terms = relaxation.terms(b, 1, start.widths, start.sums)
        channels = np.arange(problem.blocks[b].size)
        cells = np.zeros(len(channels), dtype=np.int64)
        stored = np.zeros(len(channels), dtype=bool)
        stored[choice.order[b]] = True
        place = np.full(len(channels), -1)
        place[choice.order[b]] = np.arange(len(choice.order[b]))
        for bit, r in enumerate(terms.coupled):
            reader = terms.readers[r]
            own = choice.kept[reader.access][reader.positions]
            if own.any():
                covered = (place >= place[own].min()) & (place <= place[own].max())
                cells |= covered.astype(np.int64) << bit
        potentials.append(np.where(stored, terms.table[cells, channels], terms.unstored))
    return _Point(start.widths, start.sums, tuple(potentials))


def _certified(relaxation: Relaxation, point: _Point) -> JointCertificate:
    """The multipliers in whole numbers, with the bound that these prove; at least that of free sets without any."""
    problem = relaxation.problem
    error: ProblemError | None = None
    for unit in _UNITS:
        widths, sums, potentials = (
            _whole(own, unit) for own in (point.widths, point.sums, np.concatenate(point.potentials))
        )
        ends = np.cumsum([len(own) for own in point.potentials])[:-1]
        parts = tuple(tuple(own.tolist()) for own in np.split(np.array(potentials, dtype=np.int64), ends))
        try:
            bound = proven_bound(problem, unit, widths, sums, parts, relaxation.coupled)
        except ProblemError as raised:
            error = raised
            continue
        return JointCertificate(unit, widths, sums, parts, relaxation.coupled, bound)
    assert error is not None
    raise error


def _whole(values: np.ndarray, unit: int) -> tuple[int, ...]:
    finite = np.where(np.isfinite(values), values, 0.0)
    return tuple(int(own) for own in np.rint(finite * unit))
