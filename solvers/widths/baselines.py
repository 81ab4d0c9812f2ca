"""Published ways to choose widths, for comparison: `uniform`, `halp`, `spdy`. They prove nothing.

`halp` and `spdy` predict the time from tables of one dimension, with the other side of every work at its full width.
That is too slow a prediction where both sides become narrower. So both are given the largest predicted budget found by
bisection whose choice keeps the true one; the published methods use the true budget as it is, and do worse.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from problems import AllocationProblem, LayerLevels
from solvers.allocation.dispatch import allocate
from solvers.common.errors import SolverError
from solvers.widths.incumbent import WidthIncumbent
from solvers.widths.moves import Moves

_ROUNDS = 24  # bisections: of the predicted budget
_MAX_ERROR = 2**39  # units: of loss of a block in `spdy`; larger ones are divided
_NANO = 1e-9  # seconds: in a nanosecond


def uniform(incumbent: WidthIncumbent) -> None:
    """The same share of every block: the share of least loss that keeps the budget.

    A block takes its largest width up to the share of its full one, or else its smallest.

    Raises
    ------
    SolverError
        If no share keeps the budget.
    """
    problem = incumbent.problem
    shares = sorted({Fraction(width, block.full) for block in problem.blocks for width in block.widths}, reverse=True)
    for share in shares:
        most = [share.numerator * block.full // share.denominator for block in problem.blocks]
        incumbent.offer([max(0, bisect_right(block.widths, m) - 1) for block, m in zip(problem.blocks, most)])
    if incumbent.choice is None:
        raise SolverError(f"uniform: no share of all blocks keeps the budget of {problem.name}; use 'auto'")


def halp(incumbent: WidthIncumbent) -> None:
    """HALP: groups of channels by loss per predicted time, as many as a predicted budget permits.

    Every work belongs to the blocks it writes. A block's next group brings it from a width to the next one.

    Raises
    ------
    SolverError
        If no predicted budget leads to a choice that keeps the true one.

    Notes
    -----
    Shen et al., "HALP: Hardware-Aware Latency Pruning", 2021 (arXiv 2110.10811).
    """
    moves = Moves(incumbent.problem)
    times = moves.times(incumbent.problem.full_choice, read=False)
    _bisect(incumbent, "halp", times, moves, lambda budget: _greedy(moves, times, budget))


def _greedy(moves: Moves, times: np.ndarray, budget: int) -> tuple[int, ...]:
    """Take groups by falling loss per time, those of a block in order, until none fits."""
    starts = moves.starts
    choice = [0] * (len(starts) - 1)
    while True:
        best: tuple[float, int] | None = None
        for b, place in enumerate(choice):
            at = int(starts[b]) + place
            if at + 1 < starts[b + 1] and (more := int(times[at + 1] - times[at])) <= budget:
                spared = int(moves.loss[at] - moves.loss[at + 1])
                rate = spared / more if more > 0 else float("inf")
                if best is None or rate > best[0]:
                    best = (rate, b)
        if best is None:
            return tuple(choice)
        at = int(starts[best[1]]) + choice[best[1]]
        budget -= int(times[at + 1] - times[at])
        choice[best[1]] += 1


def spdy(incumbent: WidthIncumbent) -> None:
    """SPDY: a dynamic programme over what blocks cost as inputs, with all outputs at their full width.

    Every work belongs to the blocks it reads. The programme is that of `solvers.allocate`.

    Raises
    ------
    SolverError
        If no predicted budget leads to a choice that keeps the true one.

    Notes
    -----
    Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022.
    """
    problem = incumbent.problem
    moves = Moves(problem)
    times = moves.times(problem.full_choice, written=False)
    scale = max(1, -(-max(max(block.losses) for block in problem.blocks) // _MAX_ERROR))
    layers = []
    for b, block in enumerate(problem.blocks):
        own = times[moves.starts[b] : moves.starts[b + 1]]
        errors = tuple(loss // scale for loss in block.losses)
        sparsities = tuple(k / len(own) for k in range(len(own)))
        layers.append(LayerLevels(f"block{b}", sparsities, tuple(((own - own.min()) * _NANO).tolist()), errors))

    def chosen(budget: int) -> tuple[int, ...]:
        return allocate(AllocationProblem(tuple(layers), 1.0, max(budget, 1) * _NANO)).levels

    _bisect(incumbent, "spdy", times, moves, chosen)


def _bisect(
    incumbent: WidthIncumbent,
    method: str,
    times: np.ndarray,
    moves: Moves,
    chosen: Callable[[int], tuple[int, ...]],
) -> None:
    """Offer choices of several predicted budgets: nanoseconds above every block's least predicted time."""
    starts = moves.starts[:-1]
    low, high = 0, int((np.maximum.reduceat(times, starts) - np.minimum.reduceat(times, starts)).sum())
    problem = incumbent.problem
    for budget in (high, low):
        incumbent.offer(chosen(budget))
    for _ in range(_ROUNDS):
        if high - low < 2 or incumbent.out_of_time():
            break
        middle = (low + high) // 2
        choice = chosen(middle)
        incumbent.offer(choice)
        low, high = (middle, high) if problem.evaluate(choice).time <= problem.budget else (low, middle)
    if incumbent.choice is None:
        raise SolverError(f"{method}: none of its choices keeps the budget of {problem.name}; use 'auto'")
