"""What over-reading costs at least where rows rarely meet: obstructions, each of which forces some over-read channel.

An obstruction is three channels, of which each lies apart from a chain of rows that joins the other two
(`column_triples`). Some row of it covers a channel that it does not keep: that pair of a row and a channel is paid for,
or the row pays its cap. A fractional packing of obstructions into these prices is a bound (docs/model.md, "Proofs").
Packing and search take turns: prices of the packing tell which obstructions are missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.sparse import csr_matrix

from problems import Claim, Kind
from problems.obstructions import Obstruction
from solvers.common.block_rows import BlockRows, span_blocks
from solvers.common.incumbent import Incumbent
from solvers.common.least_costs import least_costs, steepest_line
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.spans.bounds.column_triples import Triple, TripleSearch
from solvers.spans.bounds.fractional_packing import Packing, packed

MOST_CLASSES = 160  # classes: of a block that are looked at, those with most channels: a bound on memory; by hand
MOST_ROWS = 128  # rows: of a block that are looked at, those that keep fewest channels; by hand

_PARTS = 2**20  # parts: of a unit of cost, in which weights are whole numbers; by hand
_LARGEST = 2**52  # value: up to which float64 has every whole number
_MOST_STEPS = 400  # steps: of the packing method in a round; by hand
_LAST_STEPS = 4000  # steps: of the packing method when no obstruction is missing; by hand
_TRIPLES_A_ROUND = 3000  # triples: of a block that are looked at in a round; by hand
_NEW_A_ROUND = 1000  # obstructions: added in a round; by hand
_USES_A_ROUND = 3  # obstructions: added in a round that hold the same pair of a row and a class; by hand
_KEPT_SLACK = 0.3  # share: of 1, by which an unused obstruction may be hit too often and is still kept; by hand
_STEEPER = 1.05  # factor: by which a line to the excess of the best order must be steeper; by hand
_JITTER = 1e-3  # price: of random differences, so that equal triples are not all of the same rows; by hand
_STALLED = 1e-3  # share: by which the bound must grow in some rounds, or the search ends; by hand
_FAR = 3.0  # factor: by which it must still grow to reach the known bound, for the search to end early; by hand
_PATIENCE = 5  # rounds: with less growth than that; by hand


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a block that may be in obstructions.

    Attributes
    ----------
    block
        Index of the block.
    channels
        Per class the channel that stands for it, and -1 and the block's size for the ends.
    access
        int64, shape (num_rows,): the access of each row.
    rows
        The rows and the classes.
    first
        Number of the pairs of row and class in earlier blocks.
    """

    block: int
    channels: tuple[int, ...]
    access: np.ndarray
    rows: BlockRows
    first: int

    def element(self, s: int, row: int) -> int:
        """The number of a pair of a class and a row."""
        return self.first + s * self.rows.num_rows + row


class Obstructions:
    """The obstructions of a problem, as far as they are found, and the bound that they give.

    Parameters
    ----------
    task
        Any objective but one that counts runs or forbids over-reading; no bundles.
    incumbent
        What is known: its bound is raised.
    """

    def __init__(self, task: Task, incumbent: Incumbent) -> None:
        self._task, self._incumbent = task, incumbent
        costs = least_costs(task.problem, task.objective)
        fixed = span_rows(task.problem).fixed
        self._base = sum(int(own[first]) for own, first in zip(costs, fixed, strict=True))
        excess = [cost.span - cost.kept for cost in task.costs(incumbent.order)]
        lines = [_line(*own) for own in zip(costs, fixed, excess, strict=True)]
        self._slope = [slope for slope, _ in lines]
        self._capped = np.array([cap is not None for _, cap in lines], dtype=bool)
        self._blocks = self._chosen()
        self._first_cap = sum(own.rows.bits.size for own in self._blocks)
        self._caps = [Fraction(cap or 0) for _, cap in lines]
        self._parts = max(1, min(_PARTS, _LARGEST // (1 + sum(int(own[-1] - own[0]) for own in costs))))
        self._room = np.array(
            [math.floor(self._parts * room) for room in (*self._cell_prices(), *self._caps)], dtype=np.int64
        )
        self._sets: list[tuple[int, ...]] = []
        self._triples: list[tuple[int, Triple]] = []
        self._known: set[tuple[int, ...]] = set()

    @property
    def num_found(self) -> int:
        """Obstructions that are used or nearly so."""
        return len(self._sets)

    @property
    def most(self) -> int:
        """What the bound cannot exceed: a third of all prices hits every obstruction, half if a row is anchored."""
        shares = [2 if (own.rows.left | own.rows.right).any() else 3 for own in self._blocks]
        total = Fraction(0)
        for own, share in zip(self._blocks, shares, strict=True):
            missing = own.rows.weight @ ~own.rows.bits
            for a, width in zip(own.access.tolist(), missing.tolist(), strict=True):
                price = self._slope[a] * width
                total += (min(price, self._caps[a]) if self._capped[a] else price) / share
        return self._base + math.ceil(total)

    def run(self) -> int:
        """Pack and search in turns until the deadline, or as long as it pays. Returns the number of rounds."""
        if self.most <= self._incumbent.bound:
            return 0
        random = np.random.default_rng(self._task.seed)
        price = np.zeros(len(self._room))
        rounds, best = 0, [0.0]
        while not self._incumbent.closed and not self._task.expired:
            rounds += 1
            if not self._grow(price, random):
                if self._sets:
                    self._pack(None, most_steps=_LAST_STEPS)
                break
            packing = self._pack(price, most_steps=_MOST_STEPS)
            price = packing.price
            best.append(max(best[-1], float(packing.weight.sum())))
            hopeless = self._base + _FAR * best[-1] < self._incumbent.bound
            if rounds > _PATIENCE and (hopeless or best[-1] <= (1 + _STALLED) * best[-1 - _PATIENCE]):
                break
        return rounds

    def _chosen(self) -> list[_Rows]:
        """The rows that pay for their excess, and the classes that are looked at."""
        blocks: list[_Rows] = []
        problem, first = self._task.problem, 0
        for block in span_blocks(problem, span_rows(problem)):
            once = np.bincount(block.access, minlength=len(problem.accesses))[block.access] == 1
            pays = np.array([self._slope[a] > 0 for a in block.access])
            own = np.flatnonzero(once & pays & ~block.rows.bits.all(axis=0))
            own = np.sort(own[np.argsort(block.rows.weight @ block.rows.bits[:, own], kind="stable")[:MOST_ROWS]])
            if len(own) < 2:
                continue
            rows, parts = block.rows.only(own)
            classes = np.sort(np.argsort(-rows.weight * rows.bits.any(axis=1), kind="stable")[:MOST_CLASSES])
            rows = BlockRows(rows.weight[classes], rows.bits[classes], rows.slope, rows.left, rows.right)
            channels = [int(problem.classes.members[block.own[parts[s][0]]][0]) for s in classes]
            ends = (-1, problem.blocks[block.block].size)
            blocks.append(_Rows(block.block, (*channels, *ends), block.access[own], rows, first))
            first += rows.bits.size
        return blocks

    def _cell_prices(self) -> list[Fraction]:
        """What a row pays for covering a class, for every pair of the two in every block."""
        return [self._slope[a] * int(width) for own in self._blocks for width in own.rows.weight for a in own.access]

    def _grow(self, price: np.ndarray, random: np.random.Generator) -> bool:
        """Add obstructions that the prices do not pay for yet; whether there were any."""
        uses = np.zeros(self._first_cap, dtype=np.int64)
        before = len(self._sets)
        for i, own in enumerate(self._blocks):
            if self._task.expired:
                break
            cells = price[own.first : own.first + own.rows.bits.size].reshape(own.rows.bits.shape)
            jittered = cells + _JITTER * random.random(cells.shape)
            search = TripleSearch(own.rows.bits, own.rows.left, own.rows.right)
            caps = price[self._first_cap + own.access]
            for triple in search.found(jittered, caps, most=_TRIPLES_A_ROUND):
                elements = self._elements(own, triple)
                cells_used = [e for e in elements if e < self._first_cap]
                if elements in self._known or int(uses[cells_used].max()) >= _USES_A_ROUND:
                    continue
                uses[cells_used] += 1
                self._known.add(elements)
                self._sets.append(elements)
                self._triples.append((i, triple))
                if len(self._sets) - before >= _NEW_A_ROUND:
                    break
        return len(self._sets) > before

    def _elements(self, own: _Rows, triple: Triple) -> tuple[int, ...]:
        """What may pay for an obstruction: pairs of a class and a row, and caps of rows."""
        cells = {own.element(s, row) for s, row in triple.cells}
        accesses = {int(own.access[row]) for _, row in triple.cells}
        return tuple(sorted(cells | {self._first_cap + a for a in accesses if self._capped[a]}))

    def _pack(self, price: np.ndarray | None, *, most_steps: int) -> Packing:
        """Pack the obstructions, raise the bound, and forget those that do not help."""
        sizes = [len(own) for own in self._sets]
        sets = csr_matrix(
            (np.ones(sum(sizes)), np.concatenate(self._sets), np.cumsum([0, *sizes])),
            shape=(len(self._sets), len(self._room)),
        )
        capacity = np.maximum(self._room, 1) / self._parts
        start = None if price is None else Packing(np.zeros(len(self._sets)), price)
        packing = packed(sets, capacity, start, most_steps=most_steps, deadline=self._task.deadline)
        weight = self._exact(sets, packing.weight)
        total = int(weight.sum())
        used = tuple((self._triples[k], int(weight[k])) for k in np.flatnonzero(weight))
        if used:
            bound = self._base - (-total // self._parts)
            self._incumbent.raise_bound(bound, lambda proven: [self._claim(used, proven)], method="obstructions")
        kept = (weight > 0) | (sets @ packing.price < 1 + _KEPT_SLACK)
        for k in np.flatnonzero(~kept):
            self._known.discard(self._sets[k])
        self._sets = [own for own, stays in zip(self._sets, kept, strict=True) if stays]
        self._triples = [own for own, stays in zip(self._triples, kept, strict=True) if stays]
        return packing

    def _exact(self, sets: csr_matrix, weight: np.ndarray) -> np.ndarray:
        """The weights as whole numbers of parts that keep to the capacities exactly; int64, shape (num_sets,)."""
        whole = np.floor(weight * self._parts).astype(np.int64)
        counts = sets.astype(np.int64)
        load = counts.T @ whole
        over = np.flatnonzero(load > self._room)
        if len(over):
            share = np.ones(len(load))
            share[over] = self._room[over] / load[over] * (1 - 1e-9)
            cut = np.minimum.reduceat(share[counts.indices], counts.indptr[:-1])
            whole = np.where(cut < 1, np.floor(whole * cut).astype(np.int64), whole)
        load = counts.T @ whole
        assert (load <= self._room).all()
        return whole

    def _claim(self, used: tuple[tuple[tuple[int, Triple], int], ...], bound: int) -> Claim:
        """Why the bound holds."""
        problem = self._task.problem
        obstructions = []
        for (i, triple), weight in used:
            own = self._blocks[i]
            first, second, third = (own.channels[s] for s in triple.classes)
            chains = [tuple(problem.accesses[own.access[row]].name for row in chain) for chain in triple.chains]
            obstructions.append(
                Obstruction(
                    problem.blocks[own.block].name,
                    (first, second, third),
                    (chains[0], chains[1], chains[2]),
                    Fraction(weight, self._parts),
                )
            )
        return Claim(Kind.OBSTRUCTIONS, bound, obstructions=tuple(obstructions))


def bound_by_obstructions(task: Task, incumbent: Incumbent) -> dict[str, int]:
    """Raise the incumbent's bound by obstructions until the task's deadline. Returns figures for reports."""
    found = Obstructions(task, incumbent)
    rounds = found.run()
    return {"obstructions": found.num_found, "packings": rounds}


def _line(costs: np.ndarray, first: int, excess: int) -> tuple[Fraction, int | None]:
    """A slope and a cap: from the excess `first` on, an access pays at least the smaller of slope times excess and cap.

    Parameters
    ----------
    costs
        int64: least costs by excess, see `least_costs`.
    first
        Its least excess.
    excess
        Its excess in a good order. The line leads there if it is then much steeper.

    Returns
    -------
    tuple
        Both count from what it pays at `first`; no cap is None.
    """
    last = len(costs) - 1
    end = int(np.searchsorted(costs, costs[last]))
    slope = steepest_line(costs, first, end)
    cap = int(costs[last] - costs[first]) if end < last else None
    if first < excess < end:
        steeper = steepest_line(costs, first, excess)
        if steeper > Fraction(_STEEPER) * slope:
            return steeper, int(costs[excess] - costs[first])
    return slope, cap
