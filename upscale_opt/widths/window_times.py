"""Times of networks with windows: every group's table at the widths of its own accesses.

A group that contains a consumer of a stream takes the channels of this consumer's window. So does a group of the
consumer's prologue (normalisation and activation that serve it alone). A group that contains a producer makes the
channels of its window. All other work of a stream counts at its stored width.

Times are known at multiples of a step (`upscale_opt.widths.candidates.step_of`). A window in between takes as long as
the next multiple, because devices work in such steps. Counted multiply-accumulates have no steps.

An addition, and what follows it in the same group (ReLU after a residual addition), counts at the producer's window.
For what follows the addition this is too little; measured times of whole networks make up for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork, TimeTable, WidthBlock
from upscale_opt.errors import UpscaleError
from upscale_opt.masking.windows import WindowChoice
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.prologues import prologues_of
from upscale_opt.tracing.writes import writes_of
from upscale_opt.widths.candidates import step_between
from upscale_opt.widths.group_calibration import requests_of, totals
from upscale_opt.widths.group_tables import GroupTable
from upscale_opt.widths.operator_groups import OperatorGroup, Partition
from upscale_opt.widths.programme import Programme

Key = tuple[int, str | None]
"""A stream's block and the name of the access whose window counts; None: the stored width."""


def layer_of(weight: str) -> str:
    """The module of a weight."""
    return weight.removesuffix(".weight")


class Accesses:
    """Which access decides how many channels of a block a group takes or makes.

    Parameters
    ----------
    graph
        The traced network.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._readers: dict[str, str] = {}
        for name, prologue in prologues_of(graph).items():
            self._readers |= dict.fromkeys(prologue.nodes, name)
        self._prologues = frozenset(self._readers)
        self._readers |= {read.node: read.name for read in graph.reads}
        self._blocks = {read.name: read.input.blocks for read in graph.reads}
        self._writers: dict[str, str] = {}
        for write in writes_of(graph).values():
            self._writers |= dict.fromkeys(write.chain, write.name)
            self._blocks[write.name] = write.layout.blocks

    def of(self, group: OperatorGroup, block: int) -> list[str]:
        """Names of the accesses to a block in a group: one or none, unless a group both reads and writes the block."""
        nodes = [node for node in group.nodes if node not in self._prologues]
        if not nodes:
            nodes = list(group.nodes)
        named = [own[node] for own in (self._readers, self._writers) for node in nodes if node in own]
        return [name for name in dict.fromkeys(named) if block in self._blocks[name]]


def conflict(graph: Graph, parts: Partition, block: int) -> str | None:
    """Why tables cannot price the windows of a block: a group reads and writes it, so one width is not enough."""
    accesses = Accesses(graph)
    for group in parts.groups:
        if block in group.blocks and len(accesses.of(group, block)) > 1:
            return f"{group.name} both reads and writes it"
    return None


@dataclass(frozen=True, eq=False)
class _Work:
    """A group with its table, and per side the accesses of streams and the other blocks."""

    group: OperatorGroup
    table: GroupTable
    known: dict[tuple[int, int], int]
    streams: tuple[tuple[Key, ...], tuple[Key, ...]]
    others: tuple[tuple[int, ...], tuple[int, ...]]

    def at(self, first: int, second: int) -> int:
        """Whole nanoseconds at two totals."""
        if (first, second) not in self.known:
            self.known[first, second] = round(_between(self.table, first, second))
        return self.known[first, second]


class WindowTimes:
    """Predicts times of a network some of whose streams have windows.

    Parameters
    ----------
    programme
        The network's blocks and tables.
    streams
        Numbers of the blocks with windows.
    """

    def __init__(self, programme: Programme, streams: frozenset[int]) -> None:
        graph, parts = programme.graph, programme.parts
        self.programme, self.streams = programme, streams
        self.works: list[_Work] = []
        self._step = {b: 1 if programme.tables.counted else step_between(programme.candidates[b]) for b in streams}
        accesses, known = Accesses(graph), dict[str, dict[tuple[int, int], int]]()
        for group, request in zip(parts.groups, requests_of(graph, parts, programme.candidates), strict=True):
            sides, others = [], []
            for side in (group.inputs, group.outputs):
                mine = [b for b in side if b in streams]
                sides.append(tuple((b, next(iter(accesses.of(group, b)), None)) for b in mine))
                others.append(tuple(b for b in side if b not in streams))
            table = programme.tables.entries[request.signature]
            own = known.setdefault(request.signature, {})
            self.works.append(_Work(group, table, own, (sides[0], sides[1]), (others[0], others[1])))

    def predicted(self, windows: Mapping[str, WindowChoice], widths: Mapping[int, int]) -> float:
        """The sum of the tables, in nanoseconds; see `predicted_time`."""
        return float(sum(work.at(*self._totals(work, windows, widths)) for work in self.works))

    def slopes(self, windows: Mapping[str, WindowChoice], widths: Mapping[int, int]) -> dict[Key, float]:
        """Nanoseconds per channel of every access, at the current widths of everything else.

        Tables have steps, so a slope is that of the line from the least width of the stream to the current width, at
        least over a third of the stream. It is 0 if that line falls.
        """
        graph, found = self.programme.graph, dict[Key, float]()
        for work in self.works:
            now = self._totals(work, windows, widths)
            for side in (0, 1):
                for key in work.streams[side]:
                    least, size = self.programme.candidates[key[0]][0], graph.blocks[key[0]].size
                    width = self._width(key, windows)
                    high = max(width, min(size, least + max(1, size // 3)))
                    ends = [list(now), list(now)]
                    ends[0][side] += least - width
                    ends[1][side] += high - width
                    rise = (work.at(*ends[1]) - work.at(*ends[0])) / max(1, high - least)
                    found[key] = found.get(key, 0.0) + rise
        return {key: max(0.0, rise) for key, rise in found.items()}

    def problem(self, windows: Mapping[str, WindowChoice], losses: Mapping[int, float]) -> WidthProblem:
        """The width problem of all other blocks, given the windows. Its budget is the unpruned network's time.

        Parameters
        ----------
        windows
            Block name to windows, for all streams.
        losses
            Block number to what the windows lose, for all streams.
        """
        whole = self.programme.problem(1.0)
        blocks = list(whole.blocks)
        for b in self.streams:
            lost = max(0, round(losses[b] / self.programme.loss_unit))
            blocks[b] = WidthBlock(blocks[b].name, (len(windows[blocks[b].name].order),), (lost,))
        works, number = [], dict[TimeTable, int]()
        for work in self.works:
            first, second = (self._ticks(work, side, windows) for side in (0, 1))
            fixed = [self._fixed(work, side, windows) for side in (0, 1)]
            times = np.array([[work.at(i + fixed[0], j + fixed[1]) for j in second] for i in first])
            table = TimeTable(first, second, times.astype(np.int64))
            works.append(TimedWork(work.group.name, *work.others, number.setdefault(table, len(number))))
        return replace(whole, blocks=tuple(blocks), works=tuple(works), tables=tuple(number))

    def _width(self, key: Key, windows: Mapping[str, WindowChoice]) -> int:
        b, access = key
        choice = windows[self.programme.graph.blocks[b].name]
        start, stop = (0, len(choice.order)) if access is None else choice.windows.get(access, (0, len(choice.order)))
        step = self._step[b]
        return min(self.programme.graph.blocks[b].size, -(-(stop - start) // step) * step)

    def _fixed(self, work: _Work, side: int, windows: Mapping[str, WindowChoice]) -> int:
        return sum(self._width(key, windows) for key in work.streams[side])

    def _ticks(self, work: _Work, side: int, windows: Mapping[str, WindowChoice]) -> tuple[int, ...]:
        return totals(self.programme.graph, work.others[side], self.programme.candidates)

    def _totals(self, work: _Work, windows: Mapping[str, WindowChoice], widths: Mapping[int, int]) -> tuple[int, int]:
        blocks = self.programme.graph.blocks
        first, second = (
            self._fixed(work, side, windows) + sum(widths.get(b, blocks[b].size) for b in work.others[side])
            for side in (0, 1)
        )
        return first, second


def predicted_time(programme: Programme, windows: Mapping[str, WindowChoice], widths: Mapping[int, int]) -> float:
    """The sum of the tables of a network with windows, in nanoseconds, without correction.

    Parameters
    ----------
    programme
        The network's blocks and tables.
    windows
        Block name to windows (`upscale_opt.masking.windows.WindowChoice`).
    widths
        Block number to width, for the other blocks. Blocks that are not listed are whole.

    Raises
    ------
    UpscaleError
        If a block does not exist.
    """
    number = {block.name: b for b, block in enumerate(programme.graph.blocks)}
    unknown = [name for name in windows if name not in number]
    if unknown:
        raise UpscaleError(f"there is no block {unknown[0]!r}; graph.blocks lists the blocks of the network")
    return WindowTimes(programme, frozenset(number[name] for name in windows)).predicted(windows, widths)


def _between(table: GroupTable, first: int, second: int) -> float:
    """The time at two totals, linear between the ticks; `GroupTable.at` for single points, quickly."""
    weights = []
    for width, ticks in ((first, table.first), (second, table.second)):
        if not ticks[0] <= width <= ticks[-1]:
            return float(table.at([first], [second])[0, 0])  # says what is wrong
        low = min(max(0, bisect_right(ticks, width) - 1), max(0, len(ticks) - 2))
        high = min(low + 1, len(ticks) - 1)
        share = (width - ticks[low]) / (ticks[high] - ticks[low]) if high > low else 0.0
        weights.append(((low, 1 - share), (high, share)))
    times = table.nanoseconds
    return float(sum(x * y * times[i, j] for i, x in weights[0] for j, y in weights[1]))
