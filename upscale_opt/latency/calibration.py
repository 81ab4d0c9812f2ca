"""Calibration: times all possible readings of every access of a pruned model, once per distinct shape.

Each shape is timed alone, with all its readings in turn (A B C A B C ...), in several sweeps over all shapes.
Otherwise, a slow phase of the machine could make one shape look more expensive than another. A short search chooses the
spans of a shape first; its figures are not kept. The processor's caches are
in the same state as in a network: weights come from memory, and the input was just written.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import CostTable
from problems.objectives import OVER_READ
from problems.showing.progress import ProgressBar, ShowProgress
from upscale_opt.arguments.checks import at_least, settle_fields, whole
from upscale_opt.arguments.entrance import MASKED_GRAPH, entrance
from upscale_opt.errors import UpscaleWarning
from upscale_opt.latency.backends import (
    EAGER,
    ONNXRUNTIME,
    prepared_parts,
    require_backend,
    require_inputs_of,
    shared_pool,
)
from upscale_opt.latency.cost_tables import (
    SEARCH,
    TIMED,
    Case,
    Conditions,
    CostTables,
    Detail,
    Key,
    Timing,
    default_directory,
)
from upscale_opt.latency.environment import processor
from upscale_opt.latency.interleaving import interleaved
from upscale_opt.latency.retained_memory import memory_kind, retained_memory
from upscale_opt.latency.span_search import spans_to_time
from upscale_opt.latency.specimens import Specimen, forms_of, inputs_of
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.memory_formats import is_channels_last
from upscale_opt.models.precisions import tf32_setting
from upscale_opt.modules.gather_convolution import is_fused_on
from upscale_opt.onnx_runtime.requirements import OnnxError, shares_threads, version
from upscale_opt.planning.cost_model import AnalyticCosts, Workload
from upscale_opt.planning.extraction import problems_of
from upscale_opt.planning.reading import CONTIGUOUS, MATMUL, Reading

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MOST_RUNS = 128
SEARCH_ROUNDS = 3
"""Rounds in which spans are chosen. Their figures are not kept."""


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Parameters
    ----------
    spans
        Largest number of spans per shape between the kept and the stored number. They are multiples of 8. Both ends are
        timed too. Fewer are timed where the time grows evenly (`upscale_opt.latency.span_search`).
    rounds
        Number of measurements per reading.
    sweeps
        Number of sweeps over all shapes. The rounds are distributed over them.
    seconds
        Minimum time per measurement. Short calls are repeated.
    copies
        Copies of a consumer that are called in turn, so its weights are not in the cache.
    """

    spans: int = 6
    rounds: int = 8
    sweeps: int = 2
    seconds: float = 0.003
    copies: int = 6

    def __post_init__(self) -> None:
        settle_fields(self, spans=whole(0), rounds=whole(1), sweeps=whole(1), seconds=at_least(0), copies=whole(1))

    @property
    def detail(self) -> Detail:
        """All settings except rounds and sweeps."""
        return Detail(self.spans, self.seconds, self.copies)

    @property
    def rounds_per_sweep(self) -> int:
        """Measurements per reading in one sweep."""
        return -(-self.rounds // self.sweeps)


QUICK = Effort(spans=2, rounds=4, sweeps=1, seconds=0.001, copies=3)
"""An effort of about a minute for a network such as ResNet-50, where the default takes several."""


def conditions_of(example_inputs: Sequence[Any], *, backend: str = EAGER) -> Conditions:
    """The conditions, besides shapes, on which the latencies of a model on these inputs depend.

    Raises
    ------
    ModelError
        If the backend does not exist or does not fit the device.
    """
    x = next((x for x in example_inputs if isinstance(x, torch.Tensor)), torch.empty(0))
    require_backend(backend, x.device)
    require_inputs_of(backend, example_inputs)
    on_gpu = x.device.type == "cuda"
    return Conditions(
        torch.cuda.get_device_name(x.device) if on_gpu else processor(),
        str(x.dtype).removeprefix("torch."),
        "channels_last" if is_channels_last(x) else "contiguous",
        backend,
        0 if on_gpu else torch.get_num_threads(),
        torch.__version__,
        memory_kind(x.device.type),
        tf32_setting(x.device, x.dtype),
        _runtime() if backend == ONNXRUNTIME else "",
    )


@entrance(masked=MASKED_GRAPH)
def calibrate(
    masked: MaskedGraph,
    example_inputs: Sequence[Any],
    *,
    backend: str = EAGER,
    directory: str | Path | None = None,
    effort: Effort | None = None,
    progress: ShowProgress = None,
) -> CostTables:
    """Measure the missing cost tables of a masked model. They are saved after every shape, so a run can resume.

    Tables that were measured with less effort (`Effort.detail`) are measured again. A warning names shapes that ONNX
    Runtime cannot run; they get no table. `CostTables.made` counts
    timings.

    Parameters
    ----------
    masked
        A result of `upscale_opt.prune` or `upscale_opt.effective_masks`.
    example_inputs
        The tuple of inputs that it was traced with. They determine device, dtype, memory format and batch size.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`.
    directory
        Directory of the tables. Default: `default_directory`.
    effort
        How much to measure.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    ModelError
        If the backend does not fit the device.
    UpscaleError
        If the tables cannot be read or written.
    """
    conditions = conditions_of(example_inputs, backend=backend)
    directory = default_directory() if directory is None else directory
    tables = CostTables.load(directory, conditions)
    effort = effort or Effort()
    device = next((x.device for x in example_inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    sweeps, refused = _sweeps(tables, keys_of(masked), device, effort), set[Key]()
    shapes = ProgressBar("calibrate", sweeps, unit="shape", progress=progress, measures=True)
    with retained_memory():
        for key in shapes:
            if key in refused:
                continue
            known = _known(tables, key, device, effort)
            before = sum(len(timing.nanoseconds) for timing in known)
            detail = effort.detail.with_all_care_of(tables.details.get(key))  # known timings were made with this effort
            alike = replace(effort, **detail._asdict())  # same effort for all timings of a table
            try:
                if not known:
                    known, searched = search(key, conditions, device, alike)
                    tables.made[SEARCH] += searched
                tables.entries[key] = measure(key, conditions, device, alike, known)
            except OnnxError as error:
                refused.add(key)
                warnings.warn(f"{key} is not measured: {error}", UpscaleWarning, stacklevel=3)
                continue
            tables.made[TIMED] += sum(len(timing.nanoseconds) for timing in tables.entries[key]) - before
            shapes.note(f"{tables.made.total()} timings")
            tables.details[key] = detail
            tables.save(directory)
    return tables


def _cases(key: Key, device: torch.device, spans: Sequence[int]) -> list[Case]:
    """The readings to time."""
    return forms_of(key.layer, key.kept, key.stored, spans, _runs(key), gathering=is_fused_on(device))


def _known(tables: CostTables, key: Key, device: torch.device, effort: Effort) -> tuple[Timing, ...]:
    """Stored timings of a shape, if complete and of enough effort. Layers timed for SPDY have one reading only."""
    timings = tables.known(key, effort.detail)
    known = {(timing.case.reading, timing.case.shifted) for timing in timings}
    wanted = {(case.reading, case.shifted) for case in _cases(key, device, sorted({key.kept, key.stored}))}
    return timings if known >= wanted else ()


def _sweeps(tables: CostTables, keys: Sequence[Key], device: torch.device, effort: Effort) -> list[Key]:
    """The shapes to time, sweep after sweep. A sweep has the shapes with fewer measurements than required by then."""
    known = {key: _known(tables, key, device, effort) for key in keys}
    figures = {key: len(timings[0].nanoseconds) if timings else 0 for key, timings in known.items()}
    wanted = [min(effort.rounds, (i + 1) * effort.rounds_per_sweep) for i in range(effort.sweeps)]
    waiting = []
    for number in wanted:
        for key in keys:
            if figures[key] < number:
                waiting.append(key)
                figures[key] += effort.rounds_per_sweep
    return waiting


def keys_of(masked: MaskedGraph) -> list[Key]:
    """The distinct shapes of a masked model's accesses, in execution order, without shapes that cannot be measured."""
    requests = _Requests()
    problems_of(masked, costs=requests)
    return list(dict.fromkeys(requests.keys))


def measure(
    key: Key, conditions: Conditions, device: torch.device, effort: Effort, known: Sequence[Timing] = ()
) -> tuple[Timing, ...]:
    """Time the readings of one shape, interleaved, for one sweep: the known readings, or else all.

    Returns
    -------
    tuple of Timing
        The timings, with the measurements of earlier sweeps.
    """
    known = known or search(key, conditions, device, effort)[0]
    bench = _Bench(key, conditions, device, effort)
    figures = bench.figures([timing.case for timing in known], effort.rounds_per_sweep)
    return tuple(replace(own, nanoseconds=own.nanoseconds + found) for own, found in zip(known, figures, strict=True))


def search(key: Key, conditions: Conditions, device: torch.device, effort: Effort) -> tuple[tuple[Timing, ...], int]:
    """The readings of a shape to time, still without figures, and the number of timings that chose their spans.

    Spans are chosen by the faster of the module's own operator and the matrix product
    (`upscale_opt.latency.span_search`).
    """
    bench, rounds = _Bench(key, conditions, device, effort), min(SEARCH_ROUNDS, effort.rounds)
    kernels = ("", MATMUL) if key.layer.is_pointwise else ("",)
    made = 0

    def timed(spans: Sequence[int]) -> np.ndarray:
        nonlocal made
        cases = [Case(Reading(OVER_READ, kernel=kernel), span) for span in spans for kernel in kernels]
        made += len(cases) * rounds
        figures = np.maximum(bench.figures(cases, rounds), 1).reshape(len(spans), len(kernels), rounds)
        fastest = np.median(figures, axis=2).argmin(axis=1)
        found: np.ndarray = figures[np.arange(len(spans)), fastest]
        return found

    spans = spans_to_time(key.kept, key.stored, effort.spans, timed)
    return tuple(Timing(case, ()) for case in _cases(key, device, spans)), made


class _Bench:
    """Times readings of one shape. A specimen is built once, for all calls.

    Parameters
    ----------
    key, conditions, device, effort
        The shape, and how it is timed.
    """

    def __init__(self, key: Key, conditions: Conditions, device: torch.device, effort: Effort) -> None:
        self.key, self.conditions, self.device, self.effort = key, conditions, device, effort
        self.rng, self.pool = np.random.default_rng(0), shared_pool(conditions.backend)
        self.calls: dict[Case, list[Callable[[], Any]]] = {}
        self.inputs: dict[bool, tuple[torch.Tensor, ...]] = {}

    def figures(self, cases: Sequence[Case], rounds: int) -> list[tuple[int, ...]]:
        """Nanoseconds per call of every case, one figure a round, in turn."""
        with torch.inference_mode(), retained_memory():
            for case in cases:
                if case not in self.calls:
                    self.calls[case] = self._built(case)
            return interleaved([self.calls[case] for case in cases], self.device, replace(self.effort, rounds=rounds))

    def _built(self, case: Case) -> list[Callable[[], Any]]:
        layer, stored, device = self.key.layer, self.key.stored, self.device
        dtype = getattr(torch, self.conditions.dtype)
        memory_format = MEMORY_FORMATS[self.conditions.memory_format]
        own = case.reading.mode == CONTIGUOUS
        if own not in self.inputs:
            self.inputs[own] = inputs_of(layer, case, stored, dtype=dtype, device=device, memory_format=memory_format)

        def made() -> nn.Module:
            return placed(Specimen(layer, case, stored, self.rng), device, dtype, memory_format)

        return prepared_parts(made, self.inputs[own], self.effort.copies, self.conditions.backend, self.pool)


def _runtime() -> str:
    """The version of ONNX Runtime, and whether its threads sleep between the parts that are timed."""
    return version() + (", shared threads" if shares_threads() else "")


class _Requests:
    """A cost model that records which tables are requested."""

    name = "requests"

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def table(self, workload: Workload, *, kept: int, stored: int) -> CostTable:
        if workload.layer is not None:
            self.keys.append(Key(workload.layer, kept, stored))
        return AnalyticCosts().table(workload, kept=kept, stored=stored)


def _runs(key: Key) -> list[int]:
    most = min(MOST_RUNS, key.kept, key.stored - key.kept + 1)
    return [2**i for i in range(1, int(math.log2(most)) + 1)] if most >= 2 else []


def placed(
    module: nn.Module, device: torch.device, dtype: torch.dtype, memory_format: torch.memory_format
) -> nn.Module:
    """Put a module in eval mode, on a device, in a dtype and a memory format. Returns the module itself."""
    module = module.to(device=device, dtype=dtype).eval()
    if memory_format is torch.channels_last:
        module.to(memory_format=memory_format)  # type: ignore[call-overload]
    return module
