"""Argument checks of networks, their inputs, masks and state_dicts. `upscale_opt.arguments.entrance` calls them.

Checks that need a traced network are in `upscale_opt.tracing.network_fits`.
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from upscale_opt.arguments.checks import described, is_listed, refused
from upscale_opt.arguments.mask_arrays import MaskHolder, named_masks, pruned_pairs
from upscale_opt.errors import LearningError, MaskError, ModelError, PlanError, first_line
from upscale_opt.models.attributes import named_tensors
from upscale_opt.models.nested import map_nested, map_tensors
from upscale_opt.models.wrappers import plain_name, unwrapped

_ORIGINAL = "give the original nn.Module that it was made from"


def a_model(value: Any, name: str) -> nn.Module:
    """Require a network that can be traced, and return it without its wrappers (`upscale_opt.unwrapped`)."""
    is_program = isinstance(value, torch.export.ExportedProgram)
    model = unwrapped(value if is_program else _a_module(value, name))
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(f"{name} is TorchScript, which cannot be traced again; {_ORIGINAL}")
    if _is_exported_program(model):
        raise ModelError(
            f"{name} is a module of torch.export, which no longer has layers; give the ExportedProgram itself, or the "
            "original nn.Module that it was made from"
        )
    for path, module in model.named_modules():
        if _is_quantised(module):
            raise ModelError(
                f"{name} is prepared for quantisation, or quantised ({path or 'it'} is a {type(module).__name__}); "
                "prune the network before (prepare_qat, prepare, convert), and quantise the export"
            )
    lazy = [own for own, tensor in named_tensors(model) if nn.parameter.is_lazy(tensor)]
    if lazy:
        raise ModelError(f"{name} is lazy, {lazy[0]} has no shape yet; call it once with an example input")
    return model


def runnable(value: Any, name: str) -> nn.Module:
    """Require a network that can be run and measured. It may be wrapped, compiled or scripted."""
    module = _a_module(value, name)
    require_values(module, name)
    return module


def learner(value: Any, name: str) -> nn.Module:
    """Require a network that one process can train on one device, and return it without its wrappers."""
    if isinstance(value, nn.parallel.DistributedDataParallel):
        raise LearningError(
            f"{name} is wrapped in DistributedDataParallel, and a training here is one process; give {name}.module to "
            "one process alone, or prune first and train the export in a loop of your own"
        )
    model = a_model(value, name)
    require_values(model, name)
    return model


def runnables(value: Any, name: str) -> Mapping[str, nn.Module]:
    """Require a non-empty mapping from names to networks that `runnable` accepts."""
    if not isinstance(value, Mapping) or not value:
        raise refused(value, name, "a mapping of names to models, at least one", ModelError)
    return {own: runnable(model, f"{name}[{own!r}]") for own, model in value.items()}


def _a_module(value: Any, name: str) -> nn.Module:
    if not isinstance(value, nn.Module) and isinstance(getattr(value, "module", None), nn.Module):
        raise ModelError(
            f"{name} is of type {type(value).__name__}; give the network that it holds, its attribute module"
        )
    if isinstance(value, str):
        raise refused(
            value,
            name,
            f"a torch.nn.Module, such as upscale_opt.load_model(upscale_opt.ModelReference({value!r}))",
            ModelError,
        )
    if not isinstance(value, nn.Module):
        raise refused(value, name, "a torch.nn.Module in eval mode", ModelError)
    return value


def _is_exported_program(model: nn.Module) -> bool:
    """Whether a module is the result of ``torch.export.export(...).module()``: its layers are operators of aten."""
    return isinstance(model, fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload) and node.target.overloadpacket in _LAYERS
        for node in model.graph.nodes
    )


_LAYERS = tuple(
    getattr(torch.ops.aten, name)
    for name in ("linear", "addmm", "mm", "convolution", *(f"conv{d}d" for d in (1, 2, 3)), "batch_norm", "embedding")
)


def _is_quantised(module: nn.Module) -> bool:
    """Whether a module quantises values, simulates quantisation, or observes values for a later quantisation."""
    homes = {"fake_quantize": "FakeQuantizeBase", "observer": "ObserverBase"}
    kinds = [getattr(sys.modules.get(f"torch.ao.quantization.{home}"), name, None) for home, name in homes.items()]
    known = any(isinstance(kind, type) and isinstance(module, kind) for kind in kinds)
    return known or type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized"))


def require_values(model: nn.Module, name: str = "the model") -> None:
    """Check that all parameters and buffers have values.

    Raises
    ------
    ModelError
        If one of them is on the meta device.
    """
    empty = next((own for own, tensor in named_tensors(model) if tensor.is_meta), None)
    if empty is not None:
        raise ModelError(
            f"{empty} of {name} is on the meta device and has no values; build the model on the CPU, or call "
            "to_empty(device='cpu') and load a state_dict"
        )


# Inputs


def inputs(value: Any, name: str) -> torch.Tensor | tuple[Any, ...]:
    """Require a tensor, or the positional inputs as a tuple or list with at least one tensor in it."""
    remedy = "a tensor or the tuple of positional inputs, such as torch.zeros(1, 3, 224, 224)"
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, (tuple, list)):
        raise refused(value, name, remedy, ModelError)
    leaves: list[Any] = []
    map_nested(leaves.append, list(value))
    if any(isinstance(leaf, np.ndarray) for leaf in leaves):
        raise ModelError(f"{name} has a numpy array; give tensors (torch.from_numpy)")
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        raise ModelError(f"{name} has no tensor in it; give {remedy}")
    return tuple(value)


def require_call(model: nn.Module, given: torch.Tensor | Sequence[Any]) -> None:
    """Check that a model's forward accepts the given number of positional inputs.

    Raises
    ------
    ModelError
        If it needs more inputs, or accepts fewer.
    """
    values = (given,) if isinstance(given, torch.Tensor) else given
    try:
        inspect.signature(model.forward).bind(*values)
    except TypeError as error:
        raise ModelError(
            f"{type(model).__name__}.forward does not take the {len(values)} example inputs ({error}); give its "
            "positional inputs as a tuple"
        ) from error


def require_run(model: nn.Module, given: Sequence[Any], name: str) -> None:
    """Check that a model runs on these inputs.

    Raises
    ------
    ModelError
        If the model raises any exception. The message has the first line of the original message.
    """
    try:
        model(*given)
    except Exception as error:  # a network may raise anything on inputs that do not fit it
        raise ModelError(
            f"{name} does not run on the example inputs ({first_line(error)}); give inputs that fit it, on its device"
        ) from error


def with_values(given: torch.Tensor | Sequence[Any], model: nn.Module) -> torch.Tensor | tuple[Any, ...]:
    """Replace floating-point inputs on the meta device by zeros on the model's device.

    Raises
    ------
    ModelError
        If a tensor of another dtype is on the meta device: which integers the network accepts is not known.
    """
    if isinstance(given, torch.Tensor):
        return _with_values(given, model)
    filled: tuple[Any, ...] = map_tensors(lambda x: _with_values(x, model), tuple(given))
    return filled


def _with_values(x: torch.Tensor, model: nn.Module) -> torch.Tensor:
    if not x.is_meta:
        return x
    if not x.is_floating_point():
        raise ModelError(f"an example input of {x.dtype} is on the meta device; give one with values that occur")
    device = next((own.device for own in model.parameters()), torch.device("cpu"))
    return torch.zeros_like(x, device=device)


# Masks and state_dicts


def masks(value: Any, name: str) -> Any:
    """Require masks of consumers in a form that `upscale_opt.normalise_masks` accepts.

    A `MaskHolder` is replaced by its masks by name.
    """
    found = settled_masks(value, name)
    return found.of_inputs() if isinstance(found, MaskHolder) else found


def settled_masks(value: Any, name: str) -> Any:
    """Require masks as `masks` does, but return a `MaskHolder` with final masks (``is_settled``) unchanged."""
    if isinstance(value, MaskHolder):
        return value if value.is_settled else value.of_inputs()
    if not isinstance(value, Mapping) and not is_listed(value):
        raise refused(value, name, "a mapping of weight names to Boolean masks, True = kept", MaskError)
    return value


def masks_of_both_sides(value: Any, name: str) -> Any:
    """Require masks as `settled_masks` does, but return every `MaskHolder` unchanged: it may hold masks of outputs."""
    return value if isinstance(value, MaskHolder) else settled_masks(value, name)


def output_masks(value: Any, name: str) -> Any:
    """Require masks of producers' outputs in a form that `upscale_opt.normalise_output_masks` accepts.

    Of a `MaskHolder`, such as `upscale_opt.PruningMasks`, take the masks of outputs.
    """
    if isinstance(value, MaskHolder):
        return value.of_outputs()
    if not isinstance(value, Mapping) and not is_listed(value):
        raise refused(value, name, "a mapping of weight names to Boolean masks of outputs, True = kept", MaskError)
    return value


def masks_by_weight(model: nn.Module, given: Any, axes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return Boolean masks by the names of weights, for a model that is not traced.

    Parameters
    ----------
    model
        The model.
    given
        Masks in a form that `upscale_opt.normalise_masks` accepts.
    axes
        Weight name to the dimension of its input channels. A weight that is missing here gets `input_axis`.

    Raises
    ------
    MaskError
        If a name is not a weight of the model, or a mask does not fit its weight.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))

    def of_name(name: Any) -> tuple[str, int]:
        plain = plain_name(str(name))
        weight = next((own for own in (name, f"{name}.weight", plain, f"{plain}.weight") if own in parameters), None)
        if weight is None or parameters[weight].ndim < 2:
            near = difflib.get_close_matches(str(name), parameters, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise MaskError(f"{name!r} is no weight of {type(model).__name__}{hint}")
        axis = axes.get(weight, input_axis(model, weight))
        if not isinstance(axis, int) or not 0 <= axis < parameters[weight].ndim:
            raise MaskError(f"axes has {described(axis)} for {weight}; give the dimension of its input channels")
        return weight, parameters[weight].shape[axis]

    return named_masks(given, of_name) if isinstance(given, Mapping) else pruned_pairs(given, of_name)


def input_axis(model: nn.Module, weight: str) -> int:
    """Return the dimension of a weight's input channels: 0 in transposed convolutions, otherwise 1."""
    return 0 if getattr(model.get_submodule(weight.rpartition(".")[0]), "transposed", False) is True else 1


def state_dict(value: Any, name: str) -> dict[str, torch.Tensor]:
    """Require a mapping from names to tensors with values. Convert NumPy arrays to tensors."""
    if isinstance(value, nn.Module):
        raise refused(value, name, "its state_dict()", PlanError)
    if not isinstance(value, Mapping):
        raise refused(value, name, "a state_dict, a mapping of names to tensors", PlanError)
    found = {}
    for own, tensor in value.items():
        if isinstance(tensor, np.ndarray) and tensor.dtype.kind in "fiub":
            tensor = torch.from_numpy(tensor.copy())
        if not isinstance(own, str) or not isinstance(tensor, torch.Tensor):
            raise PlanError(f"{name} has {described(tensor)} under {own!r}; it must hold tensors by name")
        if tensor.is_meta:
            raise PlanError(f"{name} has {own!r} on the meta device, without values; load it onto the CPU")
        found[own] = tensor
    return found
