"""Collects what the page of a comparison shows, from a masked model and everything that was found on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from problems import objective_named
from upscale_opt.comparing.comparison_pages import Compared
from upscale_opt.comparing.masked import Masked
from upscale_opt.comparing.predictions import predicted_bars
from upscale_opt.latency.profiling import Profile
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.rounding import summary
from upscale_opt.planning.cost_model import AnalyticCosts
from upscale_opt.planning.solutions import Solutions
from upscale_opt.rewriting.exports import Exported
from upscale_opt.tracing.census import census
from upscale_opt.tracing.trace import as_tuple


def compared(
    masked: Masked,
    solutions: Solutions,
    solvers: Sequence[str],
    objective: str,
    exports: Mapping[str, Exported],
    latencies: Mapping[str, Profile] | None = None,
    *,
    title: str,
    answer: str = "",
    asked: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    command: str = "",
) -> Compared:
    """What the page of a comparison shows. Times are predicted if none were measured.

    Parameters
    ----------
    masked, solutions, solvers, objective, exports, latencies
        As in `upscale_opt.Comparison`.
    title, answer, asked, notes, command
        As in `Compared`. Objective, solvers and input shape are added to what was asked.
    """
    tensors = [own for own in as_tuple(masked.example_inputs) if isinstance(own, torch.Tensor)]
    predicted, graph = None, masked.graph
    if not latencies and isinstance(masked, MaskedGraph):
        costs = masked.costs or AnalyticCosts.for_device(tensors[0].device.type if tensors else "cpu")
        predicted = predicted_bars(masked, costs, solutions, solvers)
    timed = objective_named(objective).uses_tables and masked.costs is not None
    pinned = [f"Pinned: {own.num_channels} channels at {own.node} ({own.reason})." for own in graph.unsupported]
    return Compared(
        title,
        masked.problems,
        solutions,
        solvers,
        objective,
        {
            **(asked or {}),
            "input shape": ", ".join(" x ".join(map(str, own.shape)) for own in tensors),
            "masks": summary(masked.report).removeprefix("masks: "),
            "objective": objective,
            "solvers": ", ".join(solvers),
        },
        latencies or {},
        answer,
        predicted,
        {name: exports[name].plan.readings for name in solvers if name in exports},
        {name: own.verification.relative_error for name, own in exports.items() if own.verification},
        (*notes, *masked.messages),
        (f"{census(graph)}.", *pinned),
        f"{masked.costs.name} ({masked.costs})" if timed and masked.costs is not None else "",
        command,
    )
