"""From a plan to a verified, pruned model, and from a saved plan back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.errors import PlanError
from upscale_opt.exports import Exported
from upscale_opt.extraction import extract
from upscale_opt.flow import attribute_of
from upscale_opt.graphs import Graph
from upscale_opt.plans import Plan, baseline_plan, require_fitting
from upscale_opt.rewriting import rewrite
from upscale_opt.tracing import trace
from upscale_opt.verification import Verifier


def export(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    plan: Plan | None = None,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
    baseline: bool = False,
    verify: bool | Verifier = True,
    graph: Graph | None = None,
) -> Exported:
    """Carry out a plan: a new, smaller model that computes what the masked model computes.

    Parameters
    ----------
    model
        The original model in eval mode; it is not changed.
    example_inputs
        A tensor or the tuple of positional inputs.
    plan
        Masks, orders and read modes (`upscale_opt.plan`). May be left out with ``baseline=True`` and `masks`.
    masks
        Only with ``baseline=True`` and no plan: the masks, for every consumer or some.
    baseline
        Use the masks only: original order, a gather in front of every consumer (the paper's naive export).
    verify
        Compare with the masked model in float64 (`upscale_opt.verify`). Default True. Exports of the same masked
        model may share one `Verifier`.
    graph
        The model's trace, if it is at hand already.

    Raises
    ------
    ModelError
        If the model cannot be traced.
    PlanError
        If the plan does not fit the model.
    VerificationError
        If the export differs from the masked model; the message names the first module that does.
    """
    graph = graph or trace(model, example_inputs)
    if plan is None and not baseline:
        raise PlanError("export needs a plan; make one with upscale_opt.plan, or ask for baseline=True")
    chosen_masks = dict(plan.masks if plan is not None else masks or {})
    _require_masks(graph, chosen_masks)
    problems = extract(graph, chosen_masks)
    if baseline or plan is None:
        plan = baseline_plan(problems, chosen_masks, model=plan.model if plan else None)
    require_fitting(plan, problems)
    exported = rewrite(graph, plan)
    if verify is False:
        return exported
    verifier = Verifier(model, example_inputs, graph, plan.masks) if verify is True else verify
    verification = verifier.require(exported)
    return replace(exported, verification=verification)


def load(
    plan: Plan,
    model: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    example_inputs: torch.Tensor | Sequence[Any] | None = None,
) -> Exported:
    """Re-create an export from its plan, the original architecture, and a state_dict.

    Parameters
    ----------
    plan
        The plan.
    model
        The original architecture in eval mode; its weights do not matter and it is not changed.
    state_dict
        Of the original model, or of the export (fine-tuned or not); the shapes tell.
    example_inputs
        For tracing. Default: zeros of the plan's input shape.

    Raises
    ------
    PlanError
        If the plan does not fit the model, or the state_dict is neither the original's nor the export's.
    """
    if example_inputs is None:
        if plan.model is None:
            raise PlanError("the plan does not say the input shape; give example_inputs")
        example_inputs = torch.zeros(plan.model.input_shape)
    exported = export(model, example_inputs, plan, verify=False)
    constants = exported.graph.constants
    target = {name: tensor for name, tensor in exported.module.state_dict().items() if name not in constants}
    if all(name in state_dict and state_dict[name].shape == tensor.shape for name, tensor in target.items()):
        pruned = {name: state_dict[name] for name in target}
        exported.module.load_state_dict({**exported.module.state_dict(), **pruned})
    else:
        original = model.state_dict()
        for name in target:
            if name not in state_dict or state_dict[name].shape != original[name].shape:
                raise PlanError(
                    f"the state_dict is neither the original model's nor the export's: {name!r} is missing or has "
                    "another shape"
                )
        exported.module.load_state_dict(exported.state_of(state_dict))
    return exported


def _require_masks(graph: Graph, masks: Mapping[str, np.ndarray]) -> None:
    for name, mask in masks.items():
        if name not in graph.consumers:
            raise PlanError(f"the plan masks {name!r}, which the model does not have; it was made for another model")
        length = attribute_of(graph.module, name).shape[graph.consumers[name].input_axis]
        if len(mask) != length:
            raise PlanError(f"the plan's mask of {name!r} has length {len(mask)}, but the model's weight has {length}")
