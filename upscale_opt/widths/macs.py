"""Multiply-accumulates as a budget: tables that are counted, not measured, and the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.tracing.graphs import Graph
from upscale_opt.widths.group_calibration import Request, requests_of
from upscale_opt.widths.group_specimens import GroupSpecimens
from upscale_opt.widths.group_tables import COUNTED, GroupTable, GroupTables
from upscale_opt.widths.operator_groups import Partition


def macs_tables(graph: Graph, parts: Partition, candidates: Mapping[int, Sequence[int]]) -> GroupTables:
    """The multiply-accumulates of every operator group over both of its widths, for the example inputs.

    Every group is cut out and run on tensors without values, and products are counted
    (`torch.utils.flop_counter.FlopCounterMode`). Where "nanoseconds" are spoken of elsewhere, they are
    multiply-accumulates here.

    Parameters
    ----------
    graph, parts
        The traced network and its groups.
    candidates
        Free block to its candidate widths, ascending.

    Notes
    -----
    Counts of a convolution or a linear layer are linear along each width, so that corners are enough. A group whose
    widths are not independent, or that multiplies activations, is counted at all widths.
    """
    specimens = GroupSpecimens(graph, parts.free)
    entries: dict[str, GroupTable] = {}
    for request in requests_of(graph, parts, candidates):
        if request.signature not in entries:
            entries[request.signature] = _counted(specimens, request)
    return GroupTables(COUNTED, entries, dict.fromkeys(entries, 0.0))


def _counted(specimens: GroupSpecimens, request: Request) -> GroupTable:
    def count(first: int, second: int) -> int:
        return _macs(specimens, request, first, second)

    first, second = request.first, request.second
    ends = [tuple(dict.fromkeys((own[0], own[-1]))) for own in (first, second)]
    corners = GroupTable(
        ends[0], ends[1], np.array([[count(i, j) for j in ends[1]] for i in ends[0]], dtype=np.float64)
    )
    middle = first[len(first) // 2], second[len(second) // 2]
    probes = {middle, (middle[0], second[0]), (first[0], middle[1])}
    if all(round(float(corners.at([i], [j])[0, 0])) == count(i, j) for i, j in probes):
        return corners
    return GroupTable(first, second, np.array([[count(i, j) for j in second] for i in first], dtype=np.float64))


def _macs(specimens: GroupSpecimens, request: Request, first: int, second: int) -> int:
    """Multiply-accumulates of a group at two totals."""
    module: Any = specimens.make(request.group, (first, second)).to("meta")
    inputs = [
        x.to("meta")
        for x in specimens.inputs_of(
            request.group,
            (first, second),
            dtype=torch.float32,
            device=torch.device("meta"),
            memory_format=torch.contiguous_format,
        )
    ]
    return macs_of(module, inputs)


def macs_of(module: nn.Module, inputs: Sequence[Any]) -> int:
    """The multiply-accumulates of one pass of a module."""
    from torch.utils.flop_counter import FlopCounterMode  # it loads Triton, where that is installed

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops()) // 2
