"""Local search for every objective that depends on spans: any number of accesses, blocks and classes.

Costs are replaced by straight lines through what the accesses cover now, a block is searched for those lines, and
the true costs decide. An access that is dearer than its copy has a flat line and no say in the order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from problems import Order
from solvers.common.block_rows import SpanBlock, class_sequence, order_of, span_blocks
from solvers.common.climbing import Acceptance, Climber, descend
from solvers.common.clock import time_now
from solvers.common.incumbent import Incumbent
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.spans.heuristics.chain_moves import ChainPair
from solvers.spans.heuristics.event_moves import EventOrder
from solvers.spans.heuristics.seriation import spectral_sequences
from solvers.spans.heuristics.tangent_lines import SpanCurves

_BEND_SHARE = 0.5  # share: of kicks that also change which pieces of curves are aimed at; by hand
_OFFER_SECONDS = 0.2  # seconds: between two evaluations of all costs, which take longer than a move; by hand


class SpanClimb:
    """A search that improves an incumbent.

    Parameters
    ----------
    task
        Problem, objective (with a price of over-reading, or tables), seed and deadline.
    incumbent
        The best order; it is where the search starts.
    """

    def __init__(self, task: Task, incumbent: Incumbent) -> None:
        self._task, self._incumbent = task, incumbent
        self._rng = np.random.default_rng(task.seed)
        spans = span_rows(task.problem)
        self._fixed = spans.fixed
        self._curves = SpanCurves(task)
        blocks = span_blocks(task.problem, spans)
        self._parts = [_Part(block, class_sequence(task.problem, incumbent.order, block.block)) for block in blocks]
        self._value = self._true_value()
        self._offered = time_now()

    def run(self, starts: list[Order], patience: int) -> int:
        """Search until the deadline, or for `patience` fruitless steps per row; returns the number of steps.

        Parameters
        ----------
        starts
            Orders to begin with beside the incumbent's.
        patience
            Steps per row.
        """
        self._begin(starts)
        many = [part for part in self._parts if len(part.block.access) > 1]
        if not many:
            return 0
        rows = np.array([len(part.block.access) for part in many])
        acceptance = Acceptance(self._value, self._rng, num_parts=len(many))
        best = self._states()
        steps = 0
        while acceptance.idle < patience * rows.sum() and not self._task.expired and not self._incumbent.closed:
            part = many[int(self._rng.choice(len(many), p=rows / rows.sum()))]
            before, steps = part.snapshot(), steps + 1
            self._step(part)
            value = self._true_value()
            if not acceptance.accepts(value):
                part.recall(before)
            elif acceptance.idle == 0:
                best = self._states()
                self._offer(best, often=False)
            if acceptance.returns():
                for other, state in zip(self._parts, best):
                    other.recall(state)
        self._offer(best, often=True)
        return steps

    def _begin(self, starts: list[Order]) -> None:
        """Descend in every block from every start, and keep the best."""
        for part in self._parts:
            block = part.block
            sequences = [part.sequence, *(class_sequence(self._task.problem, start, block.block) for start in starts)]
            sequences += spectral_sequences(block.rows)
            best, best_value = part.snapshot(), self._true_value()
            for sequence in sequences:
                if self._task.expired:
                    break
                part.place(sequence)
                self._step(part, kick=False)
                value = self._true_value()
                if value < best_value:
                    best, best_value = part.snapshot(), value
            part.recall(best)
        self._value = self._true_value()
        self._offer(self._states(), often=True)

    def _step(self, part: _Part, *, kick: bool = True) -> None:
        """Kick and descend in one block, for costs straightened where they are, or bent at random."""
        access = part.block.access
        bends = kick and self._rng.random() < _BEND_SHARE
        slope = self._curves.slopes(access, self._excess()[access], self._rng if bends else None)
        part.search(slope, self._rng, self._task.deadline, kick=kick)
        if not self._curves.straight:
            slope = self._curves.slopes(access, self._excess()[access])
            part.search(slope, self._rng, self._task.deadline, kick=False)

    def _excess(self) -> np.ndarray:
        excess = self._fixed.copy()
        for part in self._parts:
            np.add.at(excess, part.block.access, part.excess)
        return excess

    def _true_value(self) -> int:
        return (
            self._curves.value(self._excess()) if self._curves.exact else self._task.value(self._order(self._states()))
        )

    def _states(self) -> list[Any]:
        return [part.snapshot() for part in self._parts]

    def _offer(self, states: list[Any], *, often: bool) -> None:
        """Hand the order of some states to the incumbent, unless one was handed over a moment ago."""
        if not often and time_now() - self._offered < _OFFER_SECONDS:
            return
        self._incumbent.offer(self._order(states))
        self._offered = time_now()

    def _order(self, states: list[Any]) -> Order:
        blocks = [part.block for part in self._parts]
        sequences = {block.block: block.own[state[0]] for block, state in zip(blocks, states)}
        return order_of(self._task.problem, sequences)


class _Part:
    """One block and its present sequence of classes.

    Attributes
    ----------
    block
        The block.
    sequence
        int, shape (num_classes,).
    excess
        int64, shape (num_rows,): unwanted width that every row covers.
    """

    def __init__(self, block: SpanBlock, sequence: np.ndarray) -> None:
        self.block = block
        self._kept = block.rows.weight @ block.rows.bits
        self._all_meet = block.rows.meet
        self._climber: Climber | None = None
        self._slope = np.zeros(0, dtype=np.int64)
        self._state: tuple[Climber, Any] | None = None
        self.place(sequence)

    def place(self, sequence: np.ndarray) -> None:
        """Take a sequence."""
        self.sequence, self._state = sequence, None
        self.excess = self.block.rows.covered(sequence) - self._kept

    def snapshot(self) -> tuple[np.ndarray, np.ndarray, Any]:
        """For `recall`; the sequence comes first."""
        return self.sequence, self.excess, self._state

    def recall(self, snapshot: tuple[np.ndarray, np.ndarray, Any]) -> None:
        """Return to a snapshot."""
        self.sequence, self.excess, self._state = snapshot

    def search(self, slope: np.ndarray, rng: np.random.Generator, deadline: float, *, kick: bool) -> None:
        """Replace the sequence by one that is locally best for some slopes."""
        climber = self._prepared(slope)
        if kick:
            climber.kick(rng)
        descend(climber, rng, deadline)
        self.place(climber.sequence())
        self._state = climber, climber.state()

    def _prepared(self, slope: np.ndarray) -> Climber:
        if self._climber is not None and self._state is not None and np.array_equal(slope, self._slope):
            owner, state = self._state
            if owner is self._climber:  # a state recalled from other slopes belongs to another climber
                self._climber.restore(state)
                return self._climber
        rows = replace(self.block.rows, slope=slope)
        kind = ChainPair if self._all_meet or rows.meet else EventOrder
        self._climber, self._slope = kind.of_sequence(rows, self.sequence), slope
        return self._climber
