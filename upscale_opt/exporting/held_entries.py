"""Holds entries of parameters at zero during training: channels that masks drop, but that the export reads or computes.

An over-read gives a consumer channels that its mask drops. An over-write computes channels that a producer's mask
drops. Their entries in the parameters are zero, but training would change them. So these entries always get a zero
gradient. From a zero value, a zero gradient, a zero momentum and weight decay, an optimiser makes zero again.

Two mechanisms do this. A gradient hook on the parameter costs nothing and changes no output (`HeldEntries`). But a hook
belongs to one tensor, and `torch.func.functional_call` runs a network with other tensors. For these, the entries are
also set to zero in the forward pass. If a module owns the parameter, a pair of forward hooks does this. The hooks do
nothing while the original parameter is in its place. If code uses the parameter, a node in the graph does it (`held`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.hooks import own_hook
from upscale_opt.models.attributes import attribute_of
from upscale_opt.rewriting.exports import ParameterSlice

_PREFIX = "held_"
_MASK = "dropped_of_"


def hold_dropped_channels(
    module: fx.GraphModule, slices: Mapping[str, ParameterSlice], model: nn.Module | None = None
) -> None:
    """Hold channels at zero that masks drop but that the export reads or computes, in place.

    The names of the state_dict do not change, and copies of the module hold it too.

    Parameters
    ----------
    module
        The export's module.
    slices
        The part of each original parameter that the module holds.
    model
        The model that the export was made from. Entries that are held there stay held. Default: no such entries.
    """
    inherited = {} if model is None else dict(_held_in(model))
    for name in dict.fromkeys((*slices, *inherited)):
        path, _, attribute = name.rpartition(".")
        parameter = _parameter(module, name)
        if parameter is None:
            continue
        owner, piece = module.get_submodule(path), slices.get(name, ParameterSlice())
        zero = piece.held(tuple(parameter.shape))
        if name in inherited and model is not None:
            whole = inherited[name].cpu().expand(attribute_of(model, name).shape)
            before = piece.of(whole.to(torch.uint8)) > 0
            zero = before if zero is None else before | zero
        owner.__dict__.pop(_PREFIX + attribute, None)
        if zero is not None and bool(zero.any()):
            _hold(module, owner, attribute, parameter, zero.to(parameter.device))


class HeldEntries:
    """Entries of a parameter that stay zero: a gradient hook that is copied together with the parameter.

    A copy of a tensor loses its hooks. This object is therefore an attribute of the module that owns the parameter. A
    deep copy (or pickle) of the module copies this object too, and the copy registers the hook on the copied parameter.

    Parameters
    ----------
    weight
        The parameter.
    zero
        bool, broadcasts to the parameter: True = held at zero.
    """

    def __init__(self, weight: nn.Parameter, zero: torch.Tensor) -> None:
        self.weight = weight
        self.zero = zero
        trained = weight.requires_grad
        weight.requires_grad_(True).register_hook(_ZeroedEntries(zero))  # a frozen weight accepts no hook
        weight.requires_grad_(trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldEntries:
        return HeldEntries(copy.deepcopy(self.weight, memo), self.zero)

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldEntries, (self.weight, self.zero)


def held(weight: Any, zero: Any) -> Any:
    """A weight whose entries are zero where `zero` is True, also if another tensor takes the weight's place.

    Without gradients, the result is the weight itself, because its own entries are already zero. Tracers of torch.fx
    see one operator. `upscale_opt.trace` sees the weight, and an export of the export holds the entries again.

    Parameters
    ----------
    weight
        The weight.
    zero
        bool, broadcasts to the weight.
    """
    if isinstance(weight, fx.Proxy):
        if getattr(weight.tracer, "looks_behind", False):
            return weight
        return weight.tracer.create_proxy("call_function", held, (weight, zero), {})
    return weight.masked_fill(zero.to(weight.device), 0) if torch.is_grad_enabled() else weight


def _held_in(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names of the parameters with held entries in a model (by module or by code), and these entries."""
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for name, entries in _entries(module):
            yield prefix + name, entries.zero
        if isinstance(module, fx.GraphModule):
            for weight, zero in _held_by_code(module):
                yield prefix + weight, attribute_of(module, zero)


def _held_by_code(module: fx.GraphModule) -> list[tuple[str, str]]:
    """Names of the parameters that the graph of a module holds, and of their masks."""
    return [
        (str(node.args[0].target), str(node.args[1].target))
        for node in module.graph.nodes
        if node.op == "call_function" and node.target is held
    ]


def _hold(
    module: fx.GraphModule, owner: nn.Module, attribute: str, parameter: nn.Parameter, zero: torch.Tensor
) -> None:
    """Hold the entries of one parameter, in all its uses in the graph."""
    setattr(owner, _PREFIX + attribute, HeldEntries(parameter, zero))
    if _zero_what_is_loaded not in owner._load_state_dict_post_hooks.values():
        owner.register_load_state_dict_post_hook(_zero_what_is_loaded)
    paths = {path for path, own in module.named_modules(remove_duplicate=False) if own is owner}
    uses = [node for node in module.graph.nodes if str(node.target).rpartition(".")[0] in paths]
    uses = [node for node in uses if node.op == "get_attr" and str(node.target).rpartition(".")[2] == attribute]
    if uses:
        owner.register_buffer(_MASK + attribute, zero, persistent=False)
    for node in uses:
        path = str(node.target).rpartition(".")[0]
        with module.graph.inserting_after(node):
            mask = module.graph.get_attr(f"{path}.{_MASK}{attribute}".removeprefix("."))
        with module.graph.inserting_after(mask):
            kept = module.graph.call_function(held, (node, mask))
        node.replace_all_uses_with(kept, delete_user_cb=lambda user, kept=kept: user is not kept)
    if uses:
        module.recompile()
    called = any(node.op == "call_module" and node.target in paths for node in module.graph.nodes)
    if called and _put_in_place not in owner._forward_pre_hooks.values():
        owner.register_forward_pre_hook(_put_in_place)
        owner.register_forward_hook(_take_away, always_call=True)


@own_hook
def _put_in_place(module: nn.Module, _inputs: Any) -> None:
    """Before a module runs: if another tensor is in a parameter's place, hold its entries in this run."""
    if not torch.is_grad_enabled():
        return
    for name, entries in _entries(module):
        current = module._parameters.get(name)
        if current is not None and current is not entries.weight:
            # Python finds an attribute of the object before the parameter. The parameter itself stays in its place.
            module.__dict__[name] = held(current, entries.zero)


@own_hook
def _take_away(module: nn.Module, _inputs: Any, _output: Any) -> None:
    """After a module has run, also after an error: remove the held tensors."""
    for name, _ in _entries(module):
        if name in module._parameters:
            module.__dict__.pop(name, None)


def _entries(module: nn.Module) -> list[tuple[str, HeldEntries]]:
    own = module.__dict__
    return [(name.removeprefix(_PREFIX), held) for name, held in own.items() if isinstance(held, HeldEntries)]


def _parameter(module: nn.Module, name: str) -> nn.Parameter | None:
    try:
        own = attribute_of(module, name)
    except AttributeError:
        return None
    return own if isinstance(own, nn.Parameter) else None


class _ZeroedEntries:
    """A gradient hook: the gradient of the held entries is zero, even if it would be infinite."""

    def __init__(self, zero: torch.Tensor) -> None:
        self.zero = zero

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        self.zero = self.zero.to(gradient.device)
        return gradient.masked_fill(self.zero, 0)


def _zero_what_is_loaded(module: Any, _incompatible: Any) -> None:
    """After load_state_dict: set held entries to zero. A parameter that was replaced (``assign=True``) is held too."""
    for name, entries in _entries(module):
        parameter = getattr(module, name)
        if entries.weight is not parameter:
            setattr(module, _PREFIX + name, HeldEntries(parameter, entries.zero))
        with torch.no_grad():
            parameter.masked_fill_(entries.zero.to(parameter.device), 0)
