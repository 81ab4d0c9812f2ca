"""The width problem: choose one width per block. Measured times must meet a budget; the summed loss is minimised.

A decision is a choice: per block the index of a width. `WidthProblem.evaluate` computes its time and its loss, and is
the only definition of both.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from problems.conversions import items, objects, of_kind, real, text, whole_number
from problems.errors import ProblemError
from problems.showing.cards import width_problem_card
from problems.showing.reprs import shown, shown_as
from problems.widths.tables import MAX_TOTAL, TimedWork, TimeTable, WidthBlock

ROUNDING = Fraction(1, 10**12)
"""Share by which a budget may exceed ``base / speedup``: a speedup is a rounded double."""

_MOST_TOTALS = 2**20  # totals: that a concatenation may have; more would not fit into a measured table anyway


@shown
@dataclass(frozen=True)
class Totals:
    """Time and loss of a choice.

    Attributes
    ----------
    time
        Nanoseconds of the whole network, the fixed ones included.
    loss
        Units of loss of all blocks together.
    speedup
        ``base`` divided by `time`; infinite if nothing takes any time.
    """

    time: int
    loss: int
    speedup: float


@shown_as(width_problem_card)
@dataclass(frozen=True)
class WidthProblem:
    """Choose one width per block within a budget of time, so that the summed loss is least.

    Whether a choice within the budget exists is not checked here, because the least time is itself a minimisation over
    the structure. `solvers.choose_widths` does it, and raises `UnreachableSpeedupError`.

    Parameters
    ----------
    blocks
        The blocks, at least one; names are unique.
    works
        What takes time. ``fixed`` and the table entries of all works add up to the time.
    tables
        The tables. Every total that the widths of a work's blocks can have must be a tick of its table.
    budget
        Nanoseconds that the whole network may take.
    base
        Nanoseconds of the whole network before pruning, at least 1. Speedups refer to it.
    fixed
        Nanoseconds that no choice changes. Default 0.
    name
        Name for messages.

    Raises
    ------
    ProblemError
        If a number is out of its range, or an attainable total is no tick.

    Examples
    --------
    >>> blocks = (WidthBlock("hidden", (8, 16), (5, 0)), WidthBlock("stream", (8, 16), (9, 0)))
    >>> table = TimeTable((8, 16), (8, 16), [[10, 19], [18, 40]])
    >>> problem = WidthProblem(blocks, (TimedWork("conv", (0,), (1,), 0),), (table,), budget=20, base=40)
    >>> problem.evaluate((0, 1))
    Totals(time=19, loss=5, speedup=2.1052631578947367)
    """

    blocks: tuple[WidthBlock, ...]
    works: tuple[TimedWork, ...]
    tables: tuple[TimeTable, ...]
    budget: int
    base: int
    fixed: int = 0
    name: str = "widths"

    def __post_init__(self) -> None:
        for field, kind in (("blocks", WidthBlock), ("works", TimedWork), ("tables", TimeTable)):
            object.__setattr__(self, field, objects(getattr(self, field), kind, f"the {field}"))
        for field, least in (("budget", 0), ("base", 1), ("fixed", 0)):
            value = whole_number(getattr(self, field), field, least=least)
            if value > MAX_TOTAL:
                raise ProblemError(f"{field} is {value} ns; give at most {MAX_TOTAL}")
            object.__setattr__(self, field, value)
        text(self.name, "the name of the problem")
        if not self.blocks:
            raise ProblemError("there is no block to choose a width for; give at least one")
        if len({block.name for block in self.blocks}) < len(self.blocks):
            raise ProblemError("two blocks have the same name; names must be unique")
        self._require_ticks()
        if sum(max(block.losses) for block in self.blocks) > MAX_TOTAL:
            raise ProblemError(f"losses sum to more than {MAX_TOTAL} units; divide them by a common factor")
        slowest = sum(int(self.tables[work.table].nanoseconds.max()) for work in self.works)
        if self.fixed + slowest > MAX_TOTAL:
            raise ProblemError(f"times sum to more than {MAX_TOTAL} ns; give them in a larger unit")

    def _require_ticks(self) -> None:
        """Every work names blocks and a table that exist, and every total of it is a tick."""
        known: dict[tuple[int, ...], np.ndarray] = {}
        for work in self.works:
            if work.table >= len(self.tables):
                raise ProblemError(f"work {work.name!r} names table {work.table} of {len(self.tables)}; count from 0")
            table = self.tables[work.table]
            sides = ((work.inputs, table.input_widths, "input"), (work.outputs, table.output_widths, "output"))
            for blocks, ticks, side in sides:
                if not all(b < len(self.blocks) for b in blocks):
                    raise ProblemError(
                        f"work {work.name!r} names {side} block {max(blocks)} of {len(self.blocks)}; count from 0"
                    )
                totals = self.attainable(blocks, known)
                lost = np.setdiff1d(totals, ticks)
                if lost.size:
                    raise ProblemError(
                        f"work {work.name!r}: its {side} blocks can have {lost[0]} channels together, which is no "
                        f"{side} tick of table {work.table}; measure that width too, or leave out widths of blocks"
                    )

    def attainable(self, blocks: Sequence[int], known: dict[tuple[int, ...], np.ndarray] | None = None) -> np.ndarray:
        """All totals that the widths of some blocks can have; int64, ascending. `known` keeps totals for later calls.

        Raises
        ------
        ProblemError
            If there are more than about a million.
        """
        known = {} if known is None else known
        key = tuple(blocks)
        if key not in known:
            totals = np.zeros(1, dtype=np.int64)
            for b, times in Counter(key).items():
                widths = times * np.array(self.blocks[b].widths, dtype=np.int64)
                totals = np.unique(totals[:, None] + widths)
                if totals.size > _MOST_TOTALS:
                    raise ProblemError(f"{len(key)} blocks can have over {_MOST_TOTALS} totals; use coarser widths")
            known[key] = totals
        return known[key]

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        return len(self.blocks)

    def evaluate(self, choice: Sequence[int]) -> Totals:
        """Time and loss of a choice, whether it keeps the budget or not.

        Parameters
        ----------
        choice
            Per block the index of a width.

        Raises
        ------
        ProblemError
            If the choice does not name one width of every block.
        """
        places = self.require_choice(choice)
        widths = [block.widths[place] for block, place in zip(self.blocks, places)]
        time = self.fixed
        for work in self.works:
            table = self.tables[work.table]
            row = bisect_left(table.input_widths, sum(widths[b] for b in work.inputs))
            column = bisect_left(table.output_widths, sum(widths[b] for b in work.outputs))
            time += int(table.nanoseconds[row, column])
        loss = sum(block.losses[place] for block, place in zip(self.blocks, places))
        return Totals(time, loss, self.base / time if time else math.inf)

    def require_choice(self, choice: Sequence[int]) -> tuple[int, ...]:
        """The choice in whole numbers.

        Raises
        ------
        ProblemError
            If the choice does not name one width of every block.
        """
        places = items(choice, "the choice")
        if len(places) != self.num_blocks:
            raise ProblemError(f"a choice has {len(places)} widths for {self.num_blocks} blocks; give one per block")
        return tuple(
            whole_number(place, f"the choice for block {block.name!r}", least=0, most=len(block.widths) - 1)
            for block, place in zip(self.blocks, places)
        )

    def widths_of(self, choice: Sequence[int]) -> dict[str, int]:
        """Widths of a choice in channels, by block name."""
        return {block.name: block.widths[p] for block, p in zip(self.blocks, self.require_choice(choice))}

    def choice_of(self, widths: Mapping[str, int]) -> tuple[int, ...]:
        """The choice that widths by block name make. Other names are ignored.

        Raises
        ------
        ProblemError
            If a block is missing or has no such width.
        """
        of_kind(widths, Mapping, "the widths")
        for block in self.blocks:
            if block.name not in widths:
                raise ProblemError(f"the widths lack block {block.name!r}; give its width")
            if widths[block.name] not in block.widths:
                raise ProblemError(f"block {block.name!r} has no width {widths[block.name]!r}; it has {block.widths}")
        return tuple(block.widths.index(widths[block.name]) for block in self.blocks)

    @property
    def full_choice(self) -> tuple[int, ...]:
        """The choice of the largest width everywhere."""
        return tuple(len(block.widths) - 1 for block in self.blocks)

    def with_budget(self, budget: int) -> WidthProblem:
        """The same problem with another budget, in nanoseconds."""
        return dataclasses.replace(self, budget=budget)

    def for_speedup(self, speedup: float) -> WidthProblem:
        """The same problem with the budget ``base / speedup``, rounded down to whole nanoseconds.

        Raises
        ------
        ProblemError
            If the speedup is not a number above 0, or so small that the budget is out of range.
        """
        if not (math.isfinite(real(speedup, "speedup")) and speedup > 0):
            raise ProblemError(f"speedup is {speedup}; give a number above 0, such as 2")
        return self.with_budget(math.floor(self.base / Fraction(float(speedup)) * (1 + ROUNDING)))

    def __str__(self) -> str:
        choices = math.prod(len(block.widths) for block in self.blocks)
        return (
            f"{self.name}: {self.num_blocks} blocks, {len(self.works)} works, 10^{math.log10(choices):.0f} choices, "
            f"{self.budget} of {self.base} ns"
        )
