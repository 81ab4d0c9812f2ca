"""From a plan to a verified, pruned model, and from a saved plan back to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.arguments.checks import a_flag, either
from upscale_opt.arguments.entrance import VERIFIER, entrance
from upscale_opt.arguments.modes import AUTO
from upscale_opt.errors import PlanError
from upscale_opt.exporting.held_zeros import prepare_training
from upscale_opt.exporting.removals import warn_if_nothing_removed
from upscale_opt.masking.input_masks import normalise_masks
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.masking.output_masks import normalise_output_masks
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.nested import map_tensors
from upscale_opt.models.network_checks import require_values, with_values
from upscale_opt.models.wrappers import without_prefixes
from upscale_opt.planning.extraction import extract
from upscale_opt.planning.plans import Plan, baseline_plan, require_fitting
from upscale_opt.rewriting.exports import Exported
from upscale_opt.rewriting.rewriting import rewrite
from upscale_opt.tracing.fingerprints import Fingerprint, fingerprint_of
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.network_fits import require_fitting_inputs, require_same_network
from upscale_opt.tracing.trace import as_tuple, trace
from upscale_opt.tracing.training_modes import training_mode_of
from upscale_opt.tracing.writes import writes_of
from upscale_opt.verifying.verification import Verifier


@entrance(verify=either(a_flag, VERIFIER))
def export(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    plan: Plan | None = None,
    *,
    masks: Mapping[str, np.ndarray] | None = None,
    output_masks: Mapping[str, np.ndarray] | None = None,
    baseline: bool = False,
    verify: bool | Verifier = True,
    graph: Graph | None = None,
    front_end: str = AUTO,
) -> Exported:
    """Carry out a plan: make a new, smaller model that computes the same as the masked model.

    The export trains as the masked model does, with dropped columns held at zero. It can be traced and exported again.
    Its forward is that of eval mode. Dropout follows ``module.train()``. Parts that only run in training, such as
    auxiliary heads, are not in the export (`Exported.unused`).

    Parameters
    ----------
    model
        The original model in eval mode. It is not changed.
    example_inputs
        A tensor or the tuple of positional inputs.
    plan
        Masks, orders and read modes (`upscale_opt.plan`). Not needed with ``baseline=True`` and `masks`.
    masks
        Only with ``baseline=True`` and no plan: the masks, for all or some consumers.
    output_masks
        Only with ``baseline=True`` and no plan: masks of producers' output channels.
    baseline
        Use the masks only: original order, and a gather before every consumer (the paper's naive export).
    verify
        Compare with the masked model in float64 (`upscale_opt.verify`). Default True. Exports of the same masked model
        may share one `Verifier`.
    graph
        The model's trace, if you already have one.
    front_end
        What captures the model if there is no trace: ``fx``, ``export`` or ``auto`` (`upscale_opt.trace`).

    Raises
    ------
    ModelError
        If the model cannot be traced.
    PlanError
        If the plan does not fit the model.
    VerificationError
        If the export differs from the masked model. The message names the first module that differs.

    Warns
    -----
    UpscaleWarning
        If nothing is removed. The message says why.
    """
    exported = carry_out(
        *(model, example_inputs, plan),
        masks=masks,
        output_masks=output_masks,
        baseline=baseline,
        graph=graph,
        front_end=front_end,
    )
    warn_if_nothing_removed(exported)
    if verify is False:
        return exported
    verifier = verify
    if not isinstance(verifier, Verifier):
        chosen = exported.plan
        given = with_values(example_inputs, model)
        verifier = Verifier(model, given, MaskedGraph(exported.graph, chosen.masks, chosen.output_masks))
    return replace(exported, verification=verifier.require(exported))


def carry_out(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[Any],
    plan: Plan | None = None,
    *,
    masks: Mapping[str, Any] | None = None,
    output_masks: Mapping[str, Any] | None = None,
    baseline: bool = False,
    graph: Graph | None = None,
    front_end: str = AUTO,
) -> Exported:
    """As `export`, but without verification, and without a warning if nothing is removed."""
    require_values(model)
    if graph is None:
        graph = trace(model, example_inputs, front_end=front_end)
    else:
        require_same_network(model, graph)
        require_fitting_inputs(model, graph, example_inputs)
    if plan is None and not baseline:
        raise PlanError("export needs a plan; make one with upscale_opt.plan, or ask for baseline=True")
    if plan is not None and (masks is not None or output_masks is not None):
        raise PlanError(
            "masks and output_masks go with baseline=True and no plan; leave them out, the plan has its own"
        )
    if plan is not None:
        chosen_masks, output_masks = dict(plan.masks), dict(plan.output_masks)
        _require_masks(graph, chosen_masks, output_masks)
    else:
        chosen_masks, output_masks = (
            normalise_masks(graph, masks or {}),
            normalise_output_masks(graph, output_masks or {}),
        )
    padding = None if plan is None else plan.padding
    problems = extract(graph, chosen_masks, output_masks=output_masks, padding=padding)
    if baseline or plan is None:
        plan = baseline_plan(problems, chosen_masks, model=plan.model if plan else None, output_masks=output_masks)
    require_fitting(plan, problems)
    exported = rewrite(graph, plan)
    mode = training_mode_of(model, graph)
    prepare_training(exported.module, exported.slices, model, mode)
    on_meta = map_tensors(lambda x: x.to("meta"), as_tuple(example_inputs))
    unused = unused_parts(model, exported.module)
    others = tuple(path for path in mode.parts if not any(f"{path}.".startswith(f"{own}.") for own in unused))
    return replace(exported, example_inputs=on_meta, unused=unused, training_only=others, training_unknown=mode.reason)


@entrance()
def load(
    plan: Plan,
    model: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    example_inputs: torch.Tensor | Sequence[Any] | None = None,
    *,
    pruned: bool | None = None,
) -> Exported:
    """Rebuild an export from its plan, the original architecture, and a state_dict.

    Parameters
    ----------
    plan
        The plan.
    model
        The original architecture in eval mode. Its weights have no effect, and it is not changed.
    state_dict
        The state_dict of the original model, or of the export (fine-tuned or not). Columns that a mask drops become
        zero. Names may have the prefixes of wrappers (``module.``, ``_orig_mod.``).
    example_inputs
        Inputs for tracing. Default: zeros of the plan's input shape.
    pruned
        Whether the state_dict is the export's. Default: decided by the shapes. It is needed only if the plan removes
        nothing but changes the order.

    Raises
    ------
    PlanError
        If the plan does not fit the model, or if the state_dict is neither the original's nor the export's. The message
        names the first mismatch. Also if the code depends on values (`Graph.fixed`) that differ in the given model.
        These are values of buffers that Python reads, or of tensors that are not buffers.
    """
    if example_inputs is None:
        if plan.model is None:
            raise PlanError("the plan does not say the input shape; give example_inputs")
        example_inputs = torch.zeros(plan.model.input_shape)
    exported = carry_out(model, example_inputs, plan)
    _require_same_values(plan.fixed, exported.graph.fixed, "the plan was made")
    constants = exported.graph.constants
    own = {name: tensor for name, tensor in exported.module.state_dict().items() if name not in constants}
    original = model.state_dict()
    state_dict = without_prefixes(state_dict, original.keys() | own.keys())
    if pruned is None:
        pruned = _is_pruned(state_dict, own, {name: original[name] for name in own}, exported)
    expected = own if pruned else {name: original[name] for name in own}
    known = original.keys() | exported.module.state_dict().keys()
    _require_state(state_dict, expected, known, "the export's" if pruned else "the original model's")
    held = exported.module.state_dict() if pruned else original
    names = [name for name in exported.graph.fixed if name in held and name in state_dict]
    _require_same_values(
        {name: fingerprint_of(state_dict[name]) for name in names},
        {name: fingerprint_of(held[name]) for name in names},
        "the state_dict is of a model",
    )
    state = {name: state_dict[name] for name in own} if pruned else exported.state_of(state_dict)
    exported.module.load_state_dict({**exported.module.state_dict(), **state})
    return exported


def _require_same_values(wanted: Mapping[str, Fingerprint], found: Mapping[str, Fingerprint], whence: str) -> None:
    """Refuse a model that differs in the values that the traced code depends on, if these values are known."""
    for name in {**wanted, **found} if wanted else ():
        if name not in found or name not in wanted or not wanted[name].matches(found[name]):
            raise PlanError(
                f"{whence} where {name!r} has other values than in this model, and the export depends on them; give "
                "the model the same values (load its state_dict into it first, if they are in there), or make the plan "
                "anew"
            )


def unused_parts(model: nn.Module, module: nn.Module) -> tuple[str, ...]:
    """Paths of the parts of a model whose parameters its trace does not use. Only the outermost parts are listed."""
    names = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    used = {id(parameter) for name, parameter in parameters.items() if name in names}
    paths = {name: list(accumulate(name.split("."), "{}.{}".format)) for name in parameters}
    alive = {path for name, parameter in parameters.items() if id(parameter) in used for path in paths[name]}
    unused = (
        next(path for path in paths[name] if path not in alive)
        for name, parameter in parameters.items()
        if id(parameter) not in used
    )
    return tuple(dict.fromkeys(unused))


def _is_pruned(
    state_dict: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    original: Mapping[str, torch.Tensor],
    exported: Exported,
) -> bool:
    """Whether a state_dict is the export's rather than the original model's, by its shapes."""

    def num_matches(expected: Mapping[str, torch.Tensor]) -> int:
        return sum(name in state_dict and state_dict[name].shape == tensor.shape for name, tensor in expected.items())

    pruned, whole = num_matches(own), num_matches(original)
    if pruned == whole == len(own) and any(piece.reorders() for piece in exported.slices.values()):
        raise PlanError(
            "the plan removes nothing, so the shapes do not tell whether the state_dict is the original model's or "
            "the export's; give pruned=False or pruned=True"
        )
    return pruned >= whole


def _require_state(
    state_dict: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    known: Set[str],
    whose: str,
) -> None:
    """Refuse a state_dict with a missing entry, an entry that the model does not have, or a wrong shape."""
    for name, tensor in expected.items():
        wanted = f"{whose} has {name!r} of shape {tuple(tensor.shape)}"
        if name not in state_dict:
            problem = f"{wanted}, which is missing"
        elif state_dict[name].shape != tensor.shape:
            problem = f"{wanted}, this one of shape {tuple(state_dict[name].shape)}"
        else:
            continue
        raise PlanError(f"the state_dict is neither the original model's nor the export's: {problem}")
    for name in state_dict:
        if name not in known:
            raise PlanError(
                f"the state_dict is neither the original model's nor the export's: it has {name!r}, which the model "
                "does not have"
            )


def _require_masks(graph: Graph, masks: Mapping[str, np.ndarray], output_masks: Mapping[str, np.ndarray]) -> None:
    writes = writes_of(graph) if output_masks else {}
    for name, mask in output_masks.items():
        if name not in writes:
            raise PlanError(f"the plan masks the outputs of {name!r}, which cannot be; it was made for another model")
        length = sum(graph.blocks[b].size for b in writes[name].layout.blocks)
        if len(mask) != length:
            raise PlanError(f"the plan's output mask of {name!r} has length {len(mask)}, but it has {length} outputs")
    for name, mask in masks.items():
        if name not in graph.consumers:
            raise PlanError(f"the plan masks {name!r}, which the model does not have; it was made for another model")
        length = attribute_of(graph.module, name).shape[graph.consumers[name].input_axis]
        if len(mask) != length:
            raise PlanError(f"the plan's mask of {name!r} has length {len(mask)}, but the model's weight has {length}")
