"""The outer loop: what the export of a choice really takes, and the problem again with times taken from that export.

Tables time each layer by itself, at full output width, without copies. In an export producers shrink by what all their
consumers drop, and channels are selected. Neither is known before the masks are, so it is measured afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import AllocationProblem, evaluate, order_by_names
from problems.objectives import COPY, OVER_READ, PIECES
from solvers import Allocation
from upscale_opt.comparing.comparison import export_all
from upscale_opt.comparing.pruning import prepare
from upscale_opt.latency.backends import EAGER
from upscale_opt.latency.calibration import Effort, conditions_of
from upscale_opt.latency.cost_tables import Case
from upscale_opt.latency.profiling import profile_interleaved
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.planning.cost_model import CostModel
from upscale_opt.planning.reading import CONTIGUOUS, Reading
from upscale_opt.planning.solutions import Solutions, each_solution
from upscale_opt.rewriting.exports import Exported
from upscale_opt.spdy.layer_times import case_times
from upscale_opt.spdy.prunable_layers import PrunableLayer
from upscale_opt.tracing.graphs import Graph, Read
from upscale_opt.tracing.trace import as_tuple


@dataclass(frozen=True)
class Exporting:
    """How a choice is exported and measured.

    Attributes
    ----------
    solver, objective, time_limit, seed
        How channels are ordered: as for `upscale_opt.compare`.
    costs
        Where cost tables come from if the objective uses them. Default: `upscale_opt.AnalyticCosts`.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    repeats
        Figures per latency; see `upscale_opt.profile_interleaved`.
    effort
        How much is timed where layers are timed again.
    """

    solver: str = "auto"
    objective: str = "latency"
    time_limit: float = 5.0
    seed: int = 0
    costs: CostModel | None = None
    backend: str = EAGER
    repeats: int | None = None
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, eq=False)
class Round:
    """One choice, what the times it was made with say of it, and what its export takes.

    Attributes
    ----------
    allocation
        The choice.
    score, uniform_score
        The loss of the stitched model, and that of the choice under equal coefficients.
    predicted
        Seconds of the whole model by the times of this round; at most `base` by the speedup asked for.
    base
        Seconds of the dense model in the table.
    measured, dense
        Median seconds of the export and of the dense model, measured in turn.
    error
        Relative error of the export's verification.
    """

    allocation: Allocation
    score: float
    uniform_score: float
    predicted: float
    base: float
    measured: float
    dense: float
    error: float | None

    @property
    def predicted_speedup(self) -> float:
        """The dense model's time over the predicted one."""
        return self.base / self.predicted

    @property
    def measured_speedup(self) -> float:
        """The dense model's time over the export's, measured in turn."""
        return self.dense / self.measured

    def __str__(self) -> str:
        return (
            f"predicted {self.predicted_speedup:.3f}x ({1e3 * self.predicted:.3f} ms), measured "
            f"{self.measured_speedup:.3f}x ({1e3 * self.measured:.3f} of {1e3 * self.dense:.3f} ms), "
            f"prediction off by {self.measured_speedup / self.predicted_speedup - 1:+.1%}, score {self.score:.4g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "predicted": self.predicted,
            "base": self.base,
            "measured": self.measured,
            "dense": self.dense,
            "predicted_speedup": self.predicted_speedup,
            "measured_speedup": self.measured_speedup,
            "score": self.score,
            "uniform_score": self.uniform_score,
            "profile": self.allocation.profile,
            "verified": self.error,
        }


@dataclass(frozen=True, eq=False)
class SolvedExport:
    """A verified export with its order solved, and what is known of its reads.

    Attributes
    ----------
    exported
        The export.
    graph, masks
        The trace it is of, and a mask for every consumer.
    spans
        Name of the access to the channels from the first to the last it keeps, in the order solved.
    """

    exported: Exported
    graph: Graph
    masks: Mapping[str, np.ndarray]
    spans: Mapping[str, int]


def solved_export(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masks: Mapping[str, np.ndarray],
    how: Exporting,
    *,
    progress: bool = False,
) -> SolvedExport:
    """Order the channels of a masked model, and export and verify it.

    Raises
    ------
    VerificationError
        If the export differs from the masked model.
    """
    prepared = prepare(model, example_inputs, masks, objective=how.objective, costs=how.costs)
    solutions: Solutions = {}
    for segment, name, result in each_solution(
        prepared.problems,
        [how.solver],
        objective=how.objective,
        time_limit=how.time_limit,
        seed=how.seed,
        progress=progress,
    ):
        solutions.setdefault(segment, {})[name] = result
    exported = export_all(prepared, solutions, [how.solver], progress=progress)[how.solver]
    spans = {
        access.name: access.span
        for problem in prepared.problems.values()
        for access in evaluate(
            problem, order_by_names(problem, exported.plan.orders, exported.plan.places), "span"
        ).accesses
    }
    return SolvedExport(exported, prepared.graph, prepared.masks, spans)


def measured_beside(
    dense: nn.Module,
    export: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    how: Exporting,
    *,
    progress: bool = False,
) -> tuple[float, float]:
    """Median seconds of the dense model and of an export, measured in turn."""
    found = profile_interleaved(
        {"dense": dense, "export": export}, example_inputs, repeats=how.repeats, backend=how.backend, progress=progress
    )
    return found["dense"].median, found["export"].median


def retimed(
    problem: AllocationProblem,
    layers: Sequence[PrunableLayer],
    last: Round,
    realised: Sequence[float],
    speedup: float,
) -> AllocationProblem:
    """The problem with times that hold for an export: of its convolutions, its selections, and all the rest.

    Every layer was timed again as the export runs it (`realised_times`). Between its dense level, where the table
    holds, and its level in the export the table's times are multiplied by a factor that goes from 1 to what was found,
    in proportion to the channels dropped; it stays beyond. What the export takes besides its layers is the new fixed
    time. What of the old one has gone (elementwise work on channels that are stored no longer), and what dense layers
    have gained by computing fewer outputs, comes back in the same way where layers get denser: each has a share by the
    input entries it drops. So the new times agree with what was measured at the choice of the export, and with the
    table where all is dense; unless selections have added more than has gone, which is then paid for whatever the
    choice.

    Parameters
    ----------
    problem
        That of the table.
    layers
        Those of the problem, in its order.
    last
        The round that was measured.
    realised
        Per layer its seconds in the export.
    speedup
        The target.

    Raises
    ------
    UnreachableSpeedupError
        If no choice meets the target by these times.
    """
    whole = last.measured * last.base / last.dense
    total = math.fsum(realised)
    if total > whole:  # layers alone are timed slower than they are in the export, as in `guarded_table`
        realised = [own * whole / total for own in realised]
    fixed = max(0.0, whole - total)
    dropped = [
        (own.channels - own.kept(levels.sparsities[level])) * own.positions
        for own, levels, level in zip(layers, problem.layers, last.allocation.levels, strict=True)
    ]
    shrunk = math.fsum(
        levels.times[level] - seconds
        for levels, level, seconds, entries in zip(
            problem.layers, last.allocation.levels, realised, dropped, strict=True
        )
        if not entries
    )
    gone = max(0.0, problem.fixed - fixed + shrunk) / max(1, sum(dropped))
    retimed_layers = []
    for own, levels, level, seconds, entries in zip(
        layers, problem.layers, last.allocation.levels, realised, dropped, strict=True
    ):
        counts = np.array(own.counts(levels.sparsities), dtype=float)
        way = (own.channels - counts) / max(1.0, own.channels - counts[level])  # 0 where dense, 1 as in the export
        if not entries:
            way = np.ones(len(counts))
        factor = seconds / levels.times[level] if levels.times[level] > 0 else 1.0
        times = np.array(levels.times) * (1 + (factor - 1) * np.minimum(way, 1)) + gone * entries * (1 - way)
        retimed_layers.append(replace(levels, times=tuple(np.maximum(times, 0.0).tolist())))
    return AllocationProblem(tuple(retimed_layers), problem.base, problem.base / speedup - fixed, fixed, problem.name)


def realised_times(
    layers: Sequence[PrunableLayer],
    solved: SolvedExport,
    example_inputs: torch.Tensor | Sequence[Any],
    how: Exporting,
) -> list[float]:
    """Seconds of every layer as an export runs it: with the output channels it stores, reading as it reads there.

    Parameters
    ----------
    layers
        Of `prunable_layers`.
    solved
        The export.
    example_inputs, how
        As for the export.
    """
    inputs = as_tuple(example_inputs)
    conditions = conditions_of(inputs, backend=how.backend)
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    masked = MaskedGraph(solved.graph, solved.masks)
    reads = {read.name: read for read in solved.graph.reads}
    known: dict[Any, float] = {}
    result = []
    for layer in layers:
        read = reads[layer.name]
        shape = replace(layer.shape, outputs=_stored(masked, read, "output"))
        case = _case(layer.name, solved, masked, read)
        if (shape, case) not in known:
            (figures,) = case_times(shape, [case], conditions, device, how.effort)
            known[shape, case] = 1e-9 * float(np.median(figures))
        result.append(known[shape, case])
    return result


def _case(name: str, solved: SolvedExport, masked: MaskedGraph, read: Read) -> tuple[Case, int]:
    """How a layer reads in an export, and how many channels its input stores."""
    plan, kept, stored = solved.exported.plan, int(masked.kept(read).sum()), _stored(masked, read, "input")
    reading = plan.readings.get(name, Reading(COPY))
    kernel, gathers = reading.kernel, reading.mode in (COPY, PIECES)
    if kept == stored:
        return Case(Reading(CONTIGUOUS, kernel="" if gathers else kernel), stored), stored
    if gathers:
        return Case(Reading(COPY, kernel=kernel), kept), stored
    width = reading.width or solved.spans.get(name, kept)
    return Case(Reading(OVER_READ, kernel=kernel), min(stored, max(kept, width))), stored


def _stored(masked: MaskedGraph, read: Read, side: str) -> int:
    """Channels that an export stores of what a read reads or computes."""
    layout = read.input if side == "input" else read.output
    return int(masked.stored[masked.graph.numbers(replace(layout, size=1))].sum())
