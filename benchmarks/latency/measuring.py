"""Measures a cell: all variants in turn, in one process. It needs plans, but no solver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from benchmarks.latency.cells import KEY, VARIANTS, Subject
from benchmarks.results import per_cent
from upscale_opt import Plan, baseline_plan, export, profile_interleaved
from upscale_opt.comparing.floors import floor_of
from upscale_opt.latency.copies import by_model, copied
from upscale_opt.latency.profiling import Profile, joined, without_drift
from upscale_opt.planning.reading import READ_MODES
from upscale_opt.verifying.verification import Verifier

Row = dict[str, Any]
FIGURES = ("median_ms", "iqr_ms", "device_ms", "to_floor", "to_floor_low", "to_floor_high")
COUNTS = ("views", "over_reads", "pieces", "copies", "products", "slices")


def measure(
    subject: Subject,
    plans: Mapping[str, Plan],
    *,
    runs: int,
    copies: int = 1,
    verify: bool = True,
    kernels: Mapping[str, str],
) -> list[Row]:
    """One row per variant.

    Parameters
    ----------
    subject
        The masked network.
    plans
        Per variant, its plan. The baseline, the unpruned model and the floor are added.
    runs, copies
        Number of rounds, and of copies per variant. Every copy is timed once in each round. The floor has twice as many
        copies (`upscale_opt.latency.copies`).
    verify
        Check every export in float64.
    kernels
        The fastest kernels of the floor's consumers (`upscale_opt.latency.readings.fastest_kernels`).

    Returns
    -------
    list
        Each row has the median and the distance between the quartiles in milliseconds, and the ratio to the floor's
        median. The ratio has median and quartiles over rounds and copies, without the part that slows down a whole
        round. It also has the share of the processors' time that the host took meanwhile.
    """
    cell, given = subject.cell, (subject.model, subject.x)
    plans = {"baseline": baseline_plan(subject.problems, subject.masks), **plans}
    verifier = Verifier(*given, subject.masked) if verify else False
    models: dict[str, nn.Module] = {"unpruned": subject.model}
    for name, own in plans.items():
        models[name] = export(*given, own, verify=verifier, graph=subject.graph).module
    models["floor"] = floor_of(*given, subject.masked, subject.problems, kernels=kernels)
    ordered = {name: models[name] for name in VARIANTS if name in models}
    timed = copied(ordered, copies, twice=["floor"])
    profiles = profile_interleaved(timed, subject.x, repeats=runs, backend=cell.backend, progress=True)
    measured = by_model(profiles, ordered)
    steady = {name: np.concatenate(own) for name, own in by_model(without_drift(profiles), ordered).items()}
    facts = {"runs": runs, "measured_copies": copies, "stolen": per_cent(profiles["floor 0"].stolen)}
    return [
        {**dict(zip(KEY, cell.key, strict=True)), "variant": name, **facts}
        | figures(joined(measured[name]), steady[name], steady["floor"])
        | _counts(plans.get(name))
        for name in ordered
    ]


def figures(own: Profile, steady: np.ndarray, floor: np.ndarray) -> Row:
    """The row of one variant, from its figures, and from its figures and the floor's without drift."""
    low, middle, high = np.percentile(steady / np.median(floor), (25, 50, 75))
    return {
        "median_ms": f"{1e3 * own.median:.4g}",
        "iqr_ms": f"{1e3 * own.iqr:.2g}",
        "device_ms": "" if own.device_seconds is None else f"{1e3 * own.device_seconds:.4g}",
        "to_floor": f"{middle:.4f}",
        "to_floor_low": f"{low:.4f}",
        "to_floor_high": f"{high:.4f}",
    }


def _counts(plan: Plan | None) -> Row:
    if plan is None:
        return dict.fromkeys(COUNTS, "")
    readings = plan.readings.values()
    kernels, early = sum(bool(own.kernel) for own in readings), sum(not own.late for own in readings)
    counted = [plan.count(mode) for mode in READ_MODES]
    return dict(zip(COUNTS, [*counted, kernels, early if early < len(readings) else ""], strict=True))
