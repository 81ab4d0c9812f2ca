"""One round of the outer loop: the measured time of a choice's export, and a new problem with times of that export.

Tables time each layer alone, at full output width and without copies. In an export, producers shrink by the channels
that all their consumers drop, and channels must be selected. Both are known only once the masks are known. So they are
measured afterwards.
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
from problems.showing.progress import ShowProgress
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
        How channels are ordered, as for `upscale_opt.compare`.
    costs
        Source of the cost tables, if the objective uses them. Default: `upscale_opt.AnalyticCosts`.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    repeats
        Number of measurements per latency; see `upscale_opt.profile_interleaved`.
    effort
        How much to measure when layers are timed again.
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
    """One choice, its predicted time, and the measured time of its export.

    Attributes
    ----------
    allocation
        The choice.
    score, uniform_score
        Loss of the stitched model, and loss of the choice under equal coefficients.
    predicted
        Seconds of the whole model by the times of this round. At most `base` divided by the target speedup.
    base
        Seconds of the dense model in the table.
    measured, dense
        Median seconds of the export and of the dense model, measured in turn.
    error
        Relative error in the verification of the export.
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
        """The dense model's time divided by the predicted time."""
        return self.base / self.predicted

    @property
    def measured_speedup(self) -> float:
        """The dense model's time divided by the export's time, both measured in turn."""
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
    """A verified export with solved orders, and data about its reads.

    Attributes
    ----------
    exported
        The export.
    graph, masks
        The trace of the export's original model, and a mask for every consumer.
    spans
        Access name to the number of channels from the first to the last kept one, in the solved order.
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
    progress: ShowProgress = None,
) -> SolvedExport:
    """Order the channels of a masked model, then export and verify it.

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
    progress: ShowProgress = None,
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
    """The problem with times that hold for an export: of its layers, its selections, and all other operators.

    Every layer was timed again as it runs in the export (`realised_times`). The table holds at the layer's dense level.
    At its level in the export, the new time holds. Between these levels, a factor on the table's times goes from 1 to
    the ratio of new time and table time. It changes in proportion to the dropped channels. Beyond the level of the
    export, the factor is constant.

    The export's time outside its layers is the new fixed time. It can be less than the old fixed time, because
    elementwise operators process fewer stored channels. Dense layers also gain time, because they compute fewer
    outputs. Both gains are lost again when layers become denser. Each layer therefore gets a share of them, in
    proportion to the input entries that it drops.

    So the new times agree with the measurement at the choice of the export, and with the table if all layers are dense.
    There is one exception: if selections add more time than was gained, every choice has to pay for it.

    Parameters
    ----------
    problem
        The problem of the table.
    layers
        The layers of the problem, in the problem's order.
    last
        The round that was measured.
    realised
        Seconds in the export, for each layer.
    speedup
        The target speedup.

    Raises
    ------
    UnreachableSpeedupError
        If no choice meets the target by these times.
    """
    whole = last.measured * last.base / last.dense
    total = math.fsum(realised)
    if total > whole:  # layers alone are slower than in the export, as in `guarded_table`
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
        way = (own.channels - counts) / max(1.0, own.channels - counts[level])  # 0: dense, 1: as in the export
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
    """Seconds of every layer as it runs in an export: with the stored output channels, and with the export's reading.

    Parameters
    ----------
    layers
        Layers from `prunable_layers`.
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
    """Number of stored channels of a read's input, or of rows of its weight, in an export."""
    layout = replace(read.input, size=1) if side == "input" else read.output
    return int(masked.stored[masked.graph.numbers(layout)].sum())
