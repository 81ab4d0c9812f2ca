"""A quick look at latencies: everything that a newcomer wants to compare, in a few rounds, within seconds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from upscale_opt.comparing.comparison import Masked, measure_all
from upscale_opt.comparing.fastest import BASELINE, UPSCALE, upscale_plan
from upscale_opt.errors import UpscaleWarning
from upscale_opt.exporting.exporter import export
from upscale_opt.latency.profiling import Profile
from upscale_opt.rewriting.exports import Exported
from upscale_opt.tracing.trace import as_tuple

FEWEST, MOST, MOST_ON_GPU = 3, 7, 50
"""Rounds. On a GPU a round is one pass, on a CPU a block of passes."""
SECONDS = 8.0
"""What the rounds should take together, beside what comes before them."""


def quick_look(masked: Masked, exports: Mapping[str, Exported], *, backend: str | None = None) -> dict[str, Profile]:
    """Measure the unpruned network, the baseline, UPSCALE's export, the given exports and the floor in turn.

    The baseline and UPSCALE's export are made here, without verification. There are 3 to 7 rounds (to
    50 on a GPU), as the network is slow or fast. `upscale_opt.compare` measures with more care.

    Parameters
    ----------
    masked
        The masked model.
    exports
        Solver to export.
    backend
        One of `upscale_opt.latency.backends.BACKENDS`. Default: as in `upscale_opt.profile`.
    """
    plan = upscale_plan(masked.problems, masked.masks, output_masks=masked.output_masks)
    made: dict[str, Any] = {"verify": False, "graph": masked.graph}
    naive: dict[str, Any] = {"masks": masked.masks, "output_masks": masked.output_masks, "baseline": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UpscaleWarning)  # the exports that were asked for have said it
        simple = {
            BASELINE: export(masked.model, masked.example_inputs, **naive, **made),
            UPSCALE: export(masked.model, masked.example_inputs, plan, **made),
        }
    variants = {**simple, **exports}
    return measure_all(masked, variants, repeats=_rounds(masked, len(variants) + 2), backend=backend, progress=True)


def _rounds(masked: Masked, variants: int) -> int:
    """As many rounds as fit into the time, by one pass of the unpruned network."""
    inputs = as_tuple(masked.example_inputs)
    on_gpu = any(isinstance(x, torch.Tensor) and x.is_cuda for x in inputs)
    with torch.inference_mode():
        masked.model(*inputs)
        started = time.perf_counter()
        masked.model(*inputs)
        if on_gpu:
            torch.cuda.synchronize()
        once = time.perf_counter() - started
    return min(MOST_ON_GPU if on_gpu else MOST, max(FEWEST, int(SECONDS / (once * variants))))
