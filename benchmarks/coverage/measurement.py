"""The measurement of one model: a generator of rows, for a separate process.

Memory is that of the whole process: the growth of its peak after the model is built.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.coverage.modes import MODES
from benchmarks.coverage.networks import built
from solvers import SolverError, solve
from upscale_opt import (
    Graph,
    UpscaleError,
    effective_masks,
    export,
    extract,
    plan,
    trace,
)
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.sweeps.costs import Clock, PeakMemory, peak_bytes
from upscale_opt.tracing.census import census
from upscale_opt.verifying.verification import Verifier

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One row to measure.

    Attributes
    ----------
    model
        Name for `upscale_opt.load_model`.
    amount, mode
        Amount and mode of the masks.
    solver, objective, time_limit
        How segments are ordered; seconds per segment.
    seed
        Seed of weights, masks and solver.
    """

    model: str
    amount: str
    mode: str
    solver: str
    objective: str
    time_limit: float
    seed: int


def measure(tasks: Sequence[Task]) -> Iterator[Row]:
    """Yield the figures of every task. All tasks have one model and seed; tasks with equal masks follow each other.

    An error gives a row too: its `reason` says why. Its `status` is ``refused`` if `trace` refuses the network in a
    sentence of its own, or else ``failed``.
    """
    try:
        subject = Subject(tasks[0].model, tasks[0].seed)
    except Exception as error:
        yield from (failure(_reason(error)) for _ in tasks)
        return
    try:
        subject.trace()
    except Exception as error:
        status = "refused" if isinstance(error, UpscaleError) else "failed"
        yield from ({**subject.figures, "status": status, "reason": _reason(error)} for _ in tasks)
        return
    masked, key = None, None
    for task in tasks:
        try:
            if masked is None or key != (task.amount, task.mode):
                masked, key = None, (task.amount, task.mode)
                masked = Masked(subject, task)
            yield {**subject.figures, **masked.solved(task)}
        except Exception as error:
            yield {**subject.figures, **failure(_reason(error))}


def failure(reason: str) -> Row:
    """The figures of a task that failed."""
    return {"status": "failed", "reason": reason}


class Subject:
    """One model with the figures that do not depend on masks."""

    graph: Graph

    def __init__(self, name: str, seed: int) -> None:
        self.model, self.inputs = built(name, seed)
        fill_zeros(self.model, seed)
        tensors = [*self.model.parameters(), *self.model.buffers()]
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        self.figures: Row = {
            "input": " + ".join("x".join(map(str, x.shape)) for x in self.inputs),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "model_mb": f"{size / 1e6:.1f}",
        }

    def trace(self) -> None:
        """Trace and extract, with the figures of that."""
        memory = PeakMemory()
        clock = Clock()
        self.graph = trace(self.model, self.inputs)
        extract(self.graph, effective_masks(self.graph).masks)
        self.figures["trace_seconds"] = f"{clock.seconds:.3f}"
        self.figures["trace_cpu_seconds"] = f"{clock.cpu_seconds:.3f}"
        self.figures["trace_mb"] = f"{memory.growth / 1e6:.1f}"
        counted = census(self.graph)
        self.figures["channels"] = counted.total
        self.figures["free"] = counted.free
        self.figures["not_removable"] = counted.not_removable
        self.figures["pinned"] = counted.pinned
        self.figures["pinned_by"] = "; ".join(f"{reason} {number}" for reason, number in counted.by_operator.items())


class Masked:
    """A subject with masks, and the masked model that its exports are compared with."""

    def __init__(self, subject: Subject, task: Task) -> None:
        self.subject = subject
        text = f"{task.seed} {task.model} {task.amount} {task.mode}"
        rng = np.random.default_rng(list(text.encode()))
        graph, (self.masks, self.outputs) = subject.graph, MODES[task.mode](subject.graph, task.amount, rng)
        self.problems = extract(graph, self.masks, output_masks=self.outputs)
        self.verifier = Verifier(
            subject.model, subject.inputs, MaskedGraph(graph, self.masks, self.outputs), seed=task.seed
        )

    def solved(self, task: Task) -> Row:
        """Order, export and verify."""
        gc.collect()  # graph modules refer to themselves, so the last export (as large as the model) is still in memory
        clock = Clock()
        results = {
            name: solve(
                problem,
                solver=task.solver,
                objective=task.objective,
                time_limit=task.time_limit,
                seed=task.seed,
            )
            for name, problem in self.problems.items()
        }
        row: Row = {"solve_seconds": f"{clock.seconds:.3f}"}
        clock = Clock()
        subject = self.subject
        chosen = plan(self.problems, self.masks, results, output_masks=self.outputs)
        exported = export(subject.model, subject.inputs, chosen, verify=False, graph=subject.graph)
        row["export_seconds"] = f"{clock.seconds:.3f}"
        clock = Clock()
        found = self.verifier.check(exported)
        row["verify_seconds"] = f"{clock.seconds:.3f}"
        evaluations = [result.evaluation for result in results.values()]
        before = self.subject.figures["parameters"]
        after = sum(parameter.numel() for parameter in exported.module.parameters())
        return {
            **row,
            "status": "verified" if found.passed else "failed",
            "reason": found.message or "",
            "error": f"{found.relative_error:.2e}",
            "control": "" if found.negative_control is None else f"{found.negative_control:.2e}",
            "gradients": "" if found.gradients is None else f"{found.gradients:.2e}",
            "gradients_reason": found.gradients_reason or "",
            "removed": f"{1 - after / before:.4f}",
            "copies": sum(evaluation.copies for evaluation in evaluations),
            "proven": sum(str(result.status) == "OPTIMAL" for result in results.values()),
            "segments": len(results),
            "peak_mb": f"{peak_bytes() / 1e6:.0f}",
        }


@torch.no_grad()
def fill_zeros(model: torch.nn.Module, seed: int) -> None:
    """Replace weights that are initialised with zeros (such as the head of a ViT) by random values, in place.

    Masks drop input channels whose weights are zero. Then the output would not depend on the layers in front.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            parameter.normal_(std=0.02, generator=generator)


def _reason(error: Exception) -> str:
    """One line about an error."""
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, (UpscaleError, SolverError)) else f"{type(error).__name__}: {text}"
