"""A bound on a weighted sum of excesses over all blocks: the state relaxation block by block, added up.

A block whose rows can be in too many states is bounded by groups of its rows: what a group costs alone, the other
rows cannot make cheaper.
"""

from __future__ import annotations

import time

import numpy as np

from problems import Problem
from solvers.common.block_rows import SpanBlock, span_blocks
from solvers.common.errors import SolverError
from solvers.common.rows import merged_classes, span_rows
from solvers.spans.state_relaxation import state_relaxation

MAX_GROUP_STATES = 60_000
"""Most states of a group of rows: 10 rows that share nothing, 14 of which every two share a class."""


def relaxed_spans(
    problem: Problem, prices: np.ndarray, *, deadline: float = np.inf, max_states: int = MAX_GROUP_STATES
) -> int:
    """No order has a smaller sum of price times excess (span minus kept channels) than this.

    Parameters
    ----------
    problem
        The problem.
    prices
        int64, shape (num_accesses,), not negative. For costs that are not proportional to the excess take lines that
        lie below them, and add the constants.
    deadline
        A `time.perf_counter` reading; blocks get equal shares of the time, and the bound is valid whenever it passes.
    max_states
        Most states per block or group of rows.

    Examples
    --------
    >>> from problems.generators import planted_intervals
    >>> relaxed_spans(planted_intervals(32, 5), np.ones(5, dtype=int))
    0
    """
    spans = span_rows(problem)
    blocks = span_blocks(problem, spans)
    total = int(prices @ spans.fixed)
    for i, block in enumerate(blocks):
        now = time.perf_counter()
        until = now + max(0.0, deadline - now) / (len(blocks) - i)
        total += _bound(block, prices[block.access], np.arange(len(block.access)), until, max_states)
    return total


def _bound(block: SpanBlock, slope: np.ndarray, own: np.ndarray, deadline: float, max_states: int) -> int:
    """Least excess of some rows of a block, bounded; in halves if they are too many."""
    own = own[slope[own] > 0]
    if len(own) == 0 or time.perf_counter() >= deadline:
        return 0
    rows = block.rows
    weight, bits, _ = merged_classes(rows.weight, rows.bits[:, own])
    try:
        relaxed = state_relaxation(
            weight, bits, slope[own], rows.left[own], rows.right[own], deadline=deadline, max_states=max_states
        )
    except SolverError:
        if len(own) == 1:
            raise
        half = len(own) // 2
        middle = (time.perf_counter() + deadline) / 2
        return _bound(block, slope, own[:half], middle, max_states) + _bound(
            block, slope, own[half:], deadline, max_states
        )
    return max(0, relaxed.bound - int(slope[own] @ (weight @ bits)))
