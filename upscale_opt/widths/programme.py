"""The width problem of a network: its blocks with losses, its groups with measured tables, and a budget.

This is where a traced network becomes a `problems.widths` problem, which needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork, TimeTable, WidthBlock
from upscale_opt.tracing.graphs import Graph
from upscale_opt.widths.candidates import losses_at
from upscale_opt.widths.group_calibration import requests_of, totals
from upscale_opt.widths.group_tables import GroupTables
from upscale_opt.widths.operator_groups import Partition

LOSS_UNITS = 2**40
"""Units of the largest loss that a network can have: losses are whole numbers, so that bounds are exact."""


@dataclass(frozen=True, eq=False)
class Programme:
    """A network ready for choices of widths.

    Attributes
    ----------
    graph, parts
        The traced network and its operator groups.
    candidates
        Free block to its candidate widths, ascending.
    scores
        Block name to the estimated loss of dropping each channel, float64.
    tables
        Measured times of the groups.
    """

    graph: Graph
    parts: Partition
    candidates: Mapping[int, tuple[int, ...]]
    scores: Mapping[str, np.ndarray]
    tables: GroupTables

    @property
    def loss_unit(self) -> float:
        """The loss that one unit of the problem stands for."""
        worst = sum(float(self.scores[self.graph.blocks[b].name].sum()) for b in self.candidates)
        return worst / LOSS_UNITS if worst > 0 else 1.0

    def problem(
        self, speedup: float, *, scale: float = 1.0, constant: float = 0.0, name: str = "widths"
    ) -> WidthProblem:
        """The width problem for a speedup of the whole network.

        Parameters
        ----------
        speedup
            How many times faster than the unpruned network.
        scale, constant
            The network takes ``scale * sum of the tables + constant`` nanoseconds
            (`upscale_opt.widths.corrections`).
        name
            Name for messages.
        """
        graph = self.graph
        blocks = []
        for b, block in enumerate(graph.blocks):
            widths = self.candidates.get(b, (block.size,))
            losses = losses_at(self.scores[block.name], widths) if b in self.candidates else np.zeros(1)
            units = np.rint(losses / self.loss_unit).astype(np.int64)
            blocks.append(WidthBlock(block.name, widths, tuple(units.tolist())))
        works, tables = self._works(scale)
        dense = sum(int(tables[work.table].nanoseconds[-1, -1]) for work in works) + round(constant)
        whole = WidthProblem(tuple(blocks), works, tables, dense, dense, round(constant), name)
        return whole.for_speedup(speedup)

    def predicted(self, widths: Mapping[int, int]) -> float:
        """The sum of the tables at a choice of widths, in nanoseconds, without correction."""
        problem = self.problem(1.0)
        chosen = {block.name: widths.get(b, block.size) for b, block in enumerate(self.graph.blocks)}
        return float(problem.evaluate(problem.choice_of(chosen)).time)

    def loss_of(self, widths: Mapping[int, int]) -> float:
        """The estimated loss of widths by block number; blocks that are not listed are whole."""
        scores = {b: self.scores[self.graph.blocks[b].name] for b in widths}
        return sum(float(losses_at(scores[b], (width,))[0]) for b, width in widths.items())

    def _works(self, scale: float) -> tuple[tuple[TimedWork, ...], tuple[TimeTable, ...]]:
        """Every group as a work, with the tables at all totals that it can have. Equal tables are shared."""
        works: list[TimedWork] = []
        number: dict[TimeTable, int] = {}
        wanted = requests_of(self.graph, self.parts, self.candidates)
        for group, request in zip(self.parts.groups, wanted, strict=True):
            first, second = (totals(self.graph, side, self.candidates) for side in (group.inputs, group.outputs))
            times = np.rint(scale * self.tables.entries[request.signature].at(first, second)).astype(np.int64)
            table = TimeTable(first, second, times)
            works.append(TimedWork(group.name, group.inputs, group.outputs, number.setdefault(table, len(number))))
        return tuple(works), tuple(number)
