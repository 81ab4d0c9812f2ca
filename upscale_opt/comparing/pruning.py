"""From a network to a masked model: trace it, and choose its masks or use given ones.

    masked = upscale_opt.prune(model, x, 0.5)
    exported = masked.export()

Start with `prune`. `prepare` takes finished masks. `compare` does everything in one call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from problems import Objective, objective_named
from problems.showing.progress import ShowProgress
from upscale_opt.arguments.checks import at_least, whole
from upscale_opt.arguments.entrance import IMPORTANCE, MASKS_OF_BOTH_SIDES, entrance
from upscale_opt.arguments.modes import AUTO, BOTH, CONSTRAINED, INPUT, MODES, OUTPUT
from upscale_opt.comparing.comparison import Comparison
from upscale_opt.comparing.masked_model import MaskedModel, device_kind
from upscale_opt.errors import MaskError
from upscale_opt.importance import Importance
from upscale_opt.importance.calibration import Loss
from upscale_opt.masking.importance_masks import importance_masks
from upscale_opt.masking.input_masks import effective_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.output_masks import normalise_output_masks, zero_row_messages
from upscale_opt.models.network_checks import require_values, with_values
from upscale_opt.models.torch_prune import PruningMasks
from upscale_opt.planning.cost_model import AnalyticCosts, CostModel
from upscale_opt.planning.extraction import extract
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.network_fits import require_fitting_inputs, require_same_network
from upscale_opt.tracing.trace import trace


@entrance(masks=MASKS_OF_BOTH_SIDES, importance=IMPORTANCE, seed=whole(0, MaskError))
def prune(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    amount: float | str | None = None,
    *,
    importance: str | Importance = "l2",
    mode: str = INPUT,
    scope: str = "local",
    amounts: Mapping[str, float | str] | None = None,
    masks: Any = None,
    output_masks: Any = None,
    ignore: Iterable[str] = (),
    data: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
    round_to: int = 1,
    min_channels: int = 1,
    graph: Graph | None = None,
    front_end: str = AUTO,
) -> MaskedModel:
    """Trace a network and choose its masks. The result can be solved, exported and compared.

    Parameters
    ----------
    model
        The model in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs.
    amount
        Share of channels to remove, in [0, 1). Default: 0.5, unless masks are given.
    importance, scope, amounts, ignore, data, loss, seed, round_to, min_channels
        How to choose channels; see `upscale_opt.importance_masks`.
    mode
        ``input``: every consumer drops its own input channels. ``output``: every producer drops its own output
        channels. ``both``: both of these. ``constrained``: all consumers of a channel agree.
    masks, output_masks
        Masks instead of an amount, in any format that `upscale_opt.normalise_masks` and
        `upscale_opt.normalise_output_masks` accept.
    graph
        The model's trace, if you already have one.
    front_end
        What captures the model if there is no trace: ``fx``, ``export`` or ``auto`` (`upscale_opt.trace`).

    Raises
    ------
    ModelError
        If the model cannot be traced.
    MaskError
        If a value is invalid, masks do not fit the model, or both masks and an amount are given.
    """
    masks, output_masks, told = _sides(masks, output_masks)
    given = masks is not None or output_masks is not None
    if given and amount is not None:
        raise MaskError("give either masks or an amount, not both")
    if mode not in MODES:
        raise MaskError(f"there is no mode {mode!r}; choose from {', '.join(MODES)}")
    started = time.perf_counter()
    if graph is None:
        require_values(model)
        graph = trace(model, with_values(example_inputs, model), front_end=front_end)
    rounding = {"round_to": round_to, "min_channels": min_channels}
    settled: Any = masks
    rows = output_masks
    if given:
        if not isinstance(masks, MaskedGraph):
            settled = effective_masks(graph, masks, **rounding)
        settled = replace(settled, messages=(*settled.messages, *told))
    else:
        ranking = {"scope": scope, "amounts": amounts, "ignore": ignore, "data": data, "loss": loss, "seed": seed}

        def chosen(side: str, **how: Any) -> dict[str, np.ndarray]:
            share = 0.5 if amount is None else amount
            return importance_masks(graph, importance, share, mode=side, **ranking, **how)

        if mode in (OUTPUT, BOTH):
            rows = chosen(OUTPUT, **rounding)
        columns = None
        if mode == CONSTRAINED:
            columns = chosen(CONSTRAINED, **rounding)
            rounding = {}
        elif mode != OUTPUT:
            columns = chosen(INPUT, output_masks=rows if mode == BOTH else None)
        settled = effective_masks(graph, columns, **rounding)
    return prepare(model, example_inputs, settled, graph=graph, started=started, output_masks=rows)


@entrance(masks=MASKS_OF_BOTH_SIDES, started=at_least(-math.inf))
def prepare(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | MaskedGraph | None = None,
    *,
    graph: Graph | None = None,
    started: float | None = None,
    objective: str | Objective = "copies",
    costs: CostModel | None = None,
    output_masks: Mapping[str, np.ndarray] | None = None,
) -> MaskedModel:
    """Trace a model, complete its masks and extract its ordering problems.

    Parameters
    ----------
    model
        The model in eval mode.
    example_inputs
        A tensor or the tuple of positional inputs.
    masks
        Masks in a format that `upscale_opt.normalise_masks` accepts. Channels with zero weights are dropped too. Masks
        of a `upscale_opt.MaskedGraph` are used unchanged. Of `upscale_opt.PruningMasks`, the columns are used, and the
        rows too unless there are output masks. Default: drop only channels with zero weights.
    graph
        The model's trace, if you already have one.
    started
        ``time.perf_counter()`` at the start of tracing, if tracing started earlier.
    objective
        The objective of the problems. If it uses cost tables, the problems get them.
    costs
        Source of the cost tables. Default: `AnalyticCosts` for the device of the example inputs.
    output_masks
        Masks of producers' output channels (`upscale_opt.normalise_output_masks`). Default: those of a `MaskedGraph`.

    Raises
    ------
    ModelError
        If the model cannot be traced.
    MaskError
        If a mask does not fit the model.
    """
    masks, output_masks, told = _sides(masks, output_masks)
    started = time.perf_counter() if started is None else started
    require_values(model)
    example_inputs = with_values(example_inputs, model)
    if graph is None:
        graph = trace(model, example_inputs)
    else:
        require_same_network(model, graph)
        require_fitting_inputs(model, graph, example_inputs)
    settled = masks
    if not isinstance(settled, MaskedGraph):
        settled = effective_masks(graph, settled)
    chosen = None
    if objective_named(objective).uses_tables:
        chosen = costs if costs is not None else AnalyticCosts.for_device(device_kind(example_inputs))
    rows = normalise_output_masks(graph, settled.output_masks if output_masks is None else output_masks)
    problems = extract(graph, settled.masks, output_masks=rows, padding=settled.padding, costs=chosen)
    return MaskedModel(
        graph,
        settled.masks,
        rows,
        settled.padding,
        (*settled.messages, *told, *zero_row_messages(graph, rows)),
        settled.report,
        model=model,
        example_inputs=example_inputs,
        problems=problems,
        trace_seconds=time.perf_counter() - started,
        costs=chosen,
    )


@entrance(masks=MASKS_OF_BOTH_SIDES)
def compare(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    masks: Mapping[str, Any] | Iterable[tuple[str, int]] | MaskedGraph | None = None,
    solvers: Sequence[str] = ("greedy", "auto"),
    *,
    objective: str | Objective = "copies",
    costs: CostModel | None = None,
    time_limit: float = 10.0,
    seed: int = 0,
    verify: bool = True,
    measure: bool = True,
    repeats: int | None = None,
    progress: ShowProgress = None,
) -> Comparison:
    """Compare solvers on one masked model: objectives with bounds, verified exports, measured latencies.

    Parameters
    ----------
    model
        The model in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs. Latencies are measured with them, on their device.
    masks
        Masks in a format that `upscale_opt.normalise_masks` accepts. Channels with zero weights are dropped too. Masks
        of a `upscale_opt.MaskedGraph` are used unchanged. Of `upscale_opt.PruningMasks`, the columns are used, and the
        rows too unless there are output masks. Default: drop only channels with zero weights.
    solvers
        Names of registered solvers.
    objective
        Name of an objective, or a `problems.Objective`.
    costs
        Source of the cost tables, if the objective uses them. Default: `AnalyticCosts` for the device.
    time_limit
        Seconds per segment and solver.
    seed
        Seed of the solvers.
    verify
        Check every export in float64.
    measure
        Measure the latency of the unpruned model, the baseline, every export and the floor, interleaved.
    repeats
        Number of measurements per variant; see `upscale_opt.profile_interleaved`.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).

    Raises
    ------
    UpscaleError
        If the model cannot be traced, a mask does not fit, or an export is wrong.
    """
    masked = prepare(model, example_inputs, masks, objective=objective, costs=costs)
    return masked.compare(
        solvers,
        objective=objective,
        time_limit=time_limit,
        seed=seed,
        verify=verify,
        measure=measure,
        repeats=repeats,
        progress=progress,
    )


def _sides(masks: Any, output_masks: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Masks of inputs, masks of outputs, and a message if `upscale_opt.PruningMasks` were taken apart."""
    if not isinstance(masks, PruningMasks):
        return masks, output_masks, ()
    rows = masks.of_outputs()
    if output_masks is not None or not rows:
        return masks.columns, output_masks, ()
    names = ", ".join(list(rows)[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return masks.columns, rows, (f"pruned outputs are made zero behind normalisation and activation: of {names}",)
