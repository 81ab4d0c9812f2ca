"""An independent evaluator and brute force, written from docs/model.md and docs/formats.md alone.

It reads the JSON object of an instance file. It imports nothing from `problems` or `solvers`, and shares no code with
them. Costs are fractions, so no number can overflow. All orders of single channels in all arrangements are evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import permutations, product
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Goal:
    """An objective: ``kind`` is `prices`, `runs` or `tables`. A price of None is infinite."""

    kind: str
    alpha: int | None = None
    gamma: int | None = None


GOALS = {
    "copies": Goal("prices", None, 1),
    "runs": Goal("runs"),
    "span": Goal("prices", 1, None),
    "traffic": Goal("prices", 1, 2),
    "latency": Goal("tables"),
}
"""The objectives of docs/model.md."""


@dataclass(frozen=True)
class Slot:
    """One block in the input of an access, and which of its channels the access keeps."""

    block: int
    kept: tuple[bool, ...]


class Oracle:
    """An instance as docs/formats.md describes it.

    Parameters
    ----------
    document
        The JSON object of an instance file.

    Examples
    --------
    >>> channels = [[1, [0]], [1, [1]], [1, [0]], [2, []]]
    >>> blocks = [{"name": "x", "pinned": False, "removable": True, "channels": channels}]
    >>> reads = [{"name": name, "blocks": [0], "channel_size": 1} for name in "ab"]
    >>> oracle = Oracle({"blocks": blocks, "accesses": reads})
    >>> oracle.stored, oracle.cost([[0, 1, 2]], [], GOALS["span"]), oracle.least(GOALS["span"])
    ([[0, 1, 2]], Fraction(1, 1), Fraction(0, 1))
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.blocks, self.accesses = document["blocks"], document["accesses"]
        self.bundles: list[list[list[int]]] = document.get("bundles", [])
        self.constraints: list[dict[str, int]] = document.get("constraints", [])
        readers = [(a, slot, b) for a, access in enumerate(self.accesses) for slot, b in enumerate(access["blocks"])]
        keeps: list[list[set[int]]] = []
        for b, block in enumerate(self.blocks):
            own = [r for r, reader in enumerate(readers) if reader[2] == b]
            keeps.append([])
            for count, signature in block["channels"]:
                if isinstance(signature, str):
                    signature = [r for i, r in enumerate(own) if int(signature, 16) >> i & 1]
                keeps[b] += [set(signature)] * count
        self.slots: list[list[Slot]] = [[] for _ in self.accesses]
        for r, (a, _, b) in enumerate(readers):
            self.slots[a].append(Slot(b, tuple(r in who for who in keeps[b])))
        self.stored: list[list[int]] = []
        for b, block in enumerate(self.blocks):
            needed = [c for c, who in enumerate(keeps[b]) if who or c in block.get("required", ())]
            everything = block["pinned"] or not block["removable"]
            self.stored.append(list(range(len(keeps[b]))) if everything else needed or [0])

    @property
    def num_orders(self) -> int:
        """Orders of single channels, whatever the constraints, times arrangements."""
        channels = math.prod(math.factorial(len(own)) for b, own in enumerate(self.stored) if not self._pinned(b))
        return channels * math.prod(math.factorial(len(units)) for units in self.bundles)

    def arranged(self, a: int, arrangement: Sequence[Sequence[int]]) -> list[Slot]:
        """The slots that access `a` reads if the m-th occurrences of blocks that change places are exchanged."""
        occupant = {}
        for units, places in zip(self.bundles, arrangement):
            for place, unit in enumerate(places):
                occupant |= dict(zip(units[place], units[unit]))
        own: dict[int, list[Slot]] = {}
        for slot in self.slots[a]:
            own.setdefault(slot.block, []).append(slot)
        waiting = {b: iter(slots) for b, slots in own.items()}
        return [next(waiting[occupant.get(slot.block, slot.block)]) for slot in self.slots[a]]

    def costs(
        self, orders: Sequence[Sequence[int]], arrangement: Sequence[Sequence[int]], goal: Goal
    ) -> list[tuple[int, int, Fraction]]:
        """Span, runs and cost of every access; an arrangement without bundles leaves units in their places.

        Raises
        ------
        ValueError
            If the order is not valid for the instance.
        """
        self._require_valid(orders, arrangement)
        found = []
        for a in range(len(self.accesses)):
            line = [slot.kept[c] for slot in self.arranged(a, arrangement) for c in orders[slot.block]]
            places = [i for i, kept in enumerate(line) if kept]
            span = places[-1] - places[0] + 1
            runs = sum(kept and not before for before, kept in zip([False, *line], line))
            found.append((span, runs, self._price(a, span, runs, goal)))
        return found

    def cost(self, orders: Sequence[Sequence[int]], arrangement: Sequence[Sequence[int]], goal: Goal) -> Fraction:
        """The value of an order in an arrangement; errors as in `costs`."""
        return sum((cost for _, _, cost in self.costs(orders, arrangement, goal)), Fraction(0))

    def least(self, goal: Goal) -> Fraction:
        """The least cost over all orders in all arrangements."""
        price = [self._prices(a, goal) for a in range(len(self.accesses))]
        scale = math.lcm(*(cost.denominator for own in price for cost in own.values()))
        most = sum(max(own.values()) for own in price) * scale
        kind: Any = np.int64 if most < 2**62 else object
        best: int | None = None
        for places in self._places:
            total: Any = 0
            for own, (spans, runs, pairs) in zip(price, places):
                table = np.zeros((spans.max() + 1, runs.max() + 1), dtype=kind)
                for pair in pairs:
                    table[pair] = int(own[pair] * scale)
                total = total + table[spans, runs]
            best = int(total.min()) if best is None else min(best, int(total.min()))
        return Fraction(best or 0, scale)

    @cached_property
    def _places(self) -> list[list[tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]]]:
        """Per arrangement and access spans and runs, on a grid with an axis per block, and the pairs that occur."""
        found = []
        for arrangement in product(*(list(permutations(range(len(units)))) for units in self.bundles)):
            found.append([self._measured(a, arrangement) for a in range(len(self.accesses))])
        return found

    def _measured(
        self, a: int, arrangement: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
        offset, first, behind = 0, None, None
        runs: Any = 0
        ends: Any = False
        for slot in self.arranged(a, arrangement):
            bits = np.array(slot.kept, dtype=bool)[self.sequences[slot.block]]
            shape = [1] * len(self.blocks)
            shape[slot.block] = len(bits)
            if bits.any():
                width = bits.shape[1]
                if first is None:
                    first = (offset + bits.argmax(axis=1)).reshape(shape)
                behind = (offset + width - bits[:, ::-1].argmax(axis=1)).reshape(shape)
            begun = bits[:, 0].astype(np.int64) + (bits[:, 1:] & ~bits[:, :-1]).sum(axis=1)
            runs = runs + begun.reshape(shape) - (ends & bits[:, 0].reshape(shape))
            ends = bits[:, -1].reshape(shape)
            offset += bits.shape[1]
        spans, runs = np.broadcast_arrays(behind - first, runs)
        pairs = np.unique(np.stack([spans.ravel(), runs.ravel()]), axis=1)
        return spans, runs, [(int(span), int(run)) for span, run in pairs.T]

    @cached_property
    def sequences(self) -> list[np.ndarray]:
        """Per block all its orders that keep the constraints, one per row."""
        found = []
        for b, own in enumerate(self.stored):
            every = [tuple(own)] if self._pinned(b) else list(permutations(own))
            found.append(np.array([order for order in every if self._keeps(b, order)], dtype=np.int64))
        return found

    def _keeps(self, b: int, order: Sequence[int]) -> bool:
        """Whether an order of block b keeps all constraints on it."""
        for own in self.constraints:
            if own["block"] != b:
                continue
            if "place" in own:
                if order[own["place"]] != own["channel"]:
                    return False
            elif list(order).index(own["first"]) > list(order).index(own["later"]):
                return False
        return True

    def _prices(self, a: int, goal: Goal) -> dict[tuple[int, int], Fraction]:
        pairs = sorted({pair for places in self._places for pair in places[a][2]})
        return {pair: self._price(a, *pair, goal) for pair in pairs}

    def _price(self, a: int, span: int, runs: int, goal: Goal) -> Fraction:
        """The cost of an access by docs/model.md, with its weight; for tables by docs/formats.md, in nanoseconds."""
        return self.accesses[a].get("weight", 1) * self._price_once(a, span, runs, goal)

    def _price_once(self, a: int, span: int, runs: int, goal: Goal) -> Fraction:
        kept = sum(sum(slot.kept) for slot in self.slots[a])
        if goal.kind == "runs":
            return Fraction(runs)
        if goal.kind == "tables":
            table = self.accesses[a]["table"]
            ways = [_between(table["spans"], table["costs"], span)]
            contiguous = _between(table["spans"], table["costs"], kept)
            if table["copy"] is not None:
                ways.append(contiguous + table["copy"])
            if "runs" in table and 2 <= runs <= table["runs"][-1]:
                ways.append(contiguous + _between(table["runs"], table["pieces"], runs))
            return min(ways)
        ways = [Fraction(0)] if span == kept else []
        if goal.alpha is not None:
            ways.append(Fraction(goal.alpha * (span - kept)))
        if goal.gamma is not None:
            ways.append(Fraction(goal.gamma * kept))
        return self.accesses[a]["channel_size"] * min(ways)

    def _pinned(self, b: int) -> bool:
        return bool(self.blocks[b]["pinned"])

    def _require_valid(self, orders: Sequence[Sequence[int]], arrangement: Sequence[Sequence[int]]) -> None:
        if [sorted(own) for own in orders] != self.stored:
            raise ValueError("the order does not place the stored channels of every block once")
        if any(self._pinned(b) and list(own) != self.stored[b] for b, own in enumerate(orders)):
            raise ValueError("the order moves channels of a pinned block")
        if not all(self._keeps(b, list(own)) for b, own in enumerate(orders)):
            raise ValueError("the order does not keep the constraints")
        if len(arrangement) not in (0, len(self.bundles)):
            raise ValueError("the order arranges other bundles")
        if any(sorted(own) != list(range(len(units))) for own, units in zip(arrangement, self.bundles)):
            raise ValueError("an arrangement is no permutation of the units")


def _between(points: Sequence[int], costs: Sequence[int], x: int) -> Fraction:
    """Linear interpolation, exactly."""
    for (left, low), (right, high) in _pairs(points, costs):
        if left <= x <= right:
            return Fraction(low) + Fraction((high - low) * (x - left), max(1, right - left))
    raise ValueError(f"{x} is outside the grid {list(points)}")


def _pairs(points: Sequence[int], costs: Sequence[int]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    grid = list(zip(points, costs))
    yield from zip(grid, grid[1:] or grid)
