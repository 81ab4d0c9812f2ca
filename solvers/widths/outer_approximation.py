"""The method `mdp`: an integer programme whose time is linear near the last choice, again and again.

A round linearises the true table at the last choice: every block's widths cost what they would cost if no other block
changed. The integer programme minimises the loss subject to all linearisations so far; its choice is the next one.
Where the time is not convex, a linearisation can cut off the best choice. So the method proves nothing, although its
last programme is solved to optimality.

Notes
-----
Sun et al., "MDP: Multidimensional Vision Model Pruning with Latency Constraint", CVPR 2025, state the widths' times as
a bilinear integer programme and solve it by outer approximation.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from solvers.common.errors import SolverError
from solvers.widths.incumbent import WidthIncumbent
from solvers.widths.moves import Moves

_ROUNDS = 30  # programmes: at most; by hand
_SHRINK = 0.98  # share: of the budget that is left to a linearisation that promised too much


def approximate(incumbent: WidthIncumbent) -> None:
    """Solve linearised programmes until a choice repeats, or time runs out.

    Raises
    ------
    SolverError
        If no programme leads to a choice that keeps the budget.
    """
    problem = incumbent.problem
    moves = Moves(problem)
    choice = problem.full_choice
    cuts: list[tuple[np.ndarray, float]] = []
    seen: set[tuple[int, ...]] = set()
    share = 1.0
    for _ in range(_ROUNDS):
        totals = problem.evaluate(choice)
        incumbent.offer(choice)
        if incumbent.out_of_time():
            break
        if choice in seen:
            if totals.time <= problem.budget:
                break
            share *= _SHRINK
            cuts = []
        seen.add(choice)
        cuts.append((moves.times(choice).astype(np.float64), problem.budget - totals.time))
        found = _solve(moves, cuts, share * problem.budget - problem.budget, incumbent.remaining)
        while found is None and len(cuts) > 1:
            cuts.pop(0)
            found = _solve(moves, cuts, share * problem.budget - problem.budget, incumbent.remaining)
        choice = found if found is not None else _fastest(moves, cuts[-1][0])
    if incumbent.choice is None:
        raise SolverError(f"mdp: none of its choices keeps the budget of {problem.name}; use 'auto'")


def _solve(moves: Moves, cuts: list[tuple[np.ndarray, float]], less: float, remaining: float) -> tuple[int, ...] | None:
    """The choice of least loss whose linearised times all keep the budget, which is changed by `less`; None if none."""
    num_blocks, num_moves = len(moves.starts) - 1, len(moves.block)
    one_width = csr_array((np.ones(num_moves), (moves.block, np.arange(num_moves))), shape=(num_blocks, num_moves))
    rows = vstack([one_width, csr_array(np.stack([cut for cut, _ in cuts]))])
    limits = np.array([slack + less for _, slack in cuts])
    found = milp(
        moves.loss / max(1, int(moves.loss.max())),
        integrality=np.ones(num_moves),
        bounds=(0, 1),
        constraints=LinearConstraint(
            rows,
            np.concatenate([np.ones(num_blocks), np.full(len(cuts), -np.inf)]),
            np.concatenate([np.ones(num_blocks), limits]),
        ),
        options={"time_limit": max(0.01, min(remaining, 1e6))},
    )
    if found.x is None:
        return None
    return tuple(int(found.x[a:b].argmax()) for a, b in zip(moves.starts[:-1], moves.starts[1:]))


def _fastest(moves: Moves, times: np.ndarray) -> tuple[int, ...]:
    """Every block at the width of least linearised time."""
    return tuple(int(times[a:b].argmin()) for a, b in zip(moves.starts[:-1], moves.starts[1:]))
