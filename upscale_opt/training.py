"""What makes an export train as the masked model does: dropped channels held at zero, dropout that can be switched on.

An over-read hands a consumer channels that its mask drops, an over-write computes some that a producer's mask drops;
their entries of the parameters are zero, and a gradient would change that. `HeldEntries` lets no gradient through to
them: whatever an optimiser makes of a zero value with a zero gradient, a zero momentum and weight decay, it is zero
again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.exports import ParameterSlice

_PREFIX = "held_"
_DROPOUTS = (
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
    *(functional.alpha_dropout, functional.feature_alpha_dropout),
)
_DROPOUT_NAMES = ("stochastic_depth", "shifted_window_attention")


def prepare_training(module: fx.GraphModule, slices: Mapping[str, ParameterSlice]) -> None:
    """Make a freshly rewritten module trainable, in place: `hold_dropped_channels` and `follow_training_mode`.

    Parameters
    ----------
    module
        The export's module.
    slices
        Which part of each original parameter it holds.
    """
    hold_dropped_channels(module, slices)
    follow_training_mode(module)


def hold_dropped_channels(module: nn.Module, slices: Mapping[str, ParameterSlice]) -> None:
    """Hold what masks drop but the export reads or computes at zero, in place.

    The names of the state_dict do not change, and copies of the module hold it too. What was held in the module this
    one was made from stays held.
    """
    for name, piece in slices.items():
        path, _, attribute = name.rpartition(".")
        owner = module.get_submodule(path)
        parameter = getattr(owner, attribute)
        if not isinstance(parameter, nn.Parameter):
            continue
        zero = piece.held(tuple(parameter.shape))
        inherited: HeldEntries | None = owner.__dict__.get(_PREFIX + attribute)
        if inherited is not None:
            before = piece.of(inherited.zero.expand(inherited.weight.shape).to(torch.uint8)) > 0
            zero = before if zero is None else before | zero
            delattr(owner, _PREFIX + attribute)
        if zero is not None and bool(zero.any()):
            setattr(owner, _PREFIX + attribute, HeldEntries(parameter, zero))
            if inherited is None:
                owner.register_load_state_dict_post_hook(_hold_loaded)


class HeldEntries:
    """Entries of a parameter that stay zero: a gradient hook that is copied along with the parameter.

    A tensor's hooks are lost when it is copied. This object is an attribute of the module that owns the parameter; a
    deep copy (or pickle) of the module copies it too, and the copy registers the hook on the copied parameter.

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
        weight.requires_grad_(True).register_hook(_ZeroedEntries(zero))  # a frozen weight takes no hook
        weight.requires_grad_(trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldEntries:
        return HeldEntries(copy.deepcopy(self.weight, memo), self.zero)

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldEntries, (self.weight, self.zero)


def follow_training_mode(module: fx.GraphModule) -> None:
    """Let functional dropout and stochastic depth ask the module whether it is training, in place.

    Tracing a model in eval mode turns ``dropout(x, training=self.training)`` into ``dropout(x, training=False)``.
    """
    dropouts = [(node, place) for node in module.graph.nodes if (place := _switched_off(node)) is not None]
    if not dropouts:
        return
    first = next(node for node in module.graph.nodes if node.op != "placeholder")
    with module.graph.inserting_before(first):
        training = module.graph.create_node("get_attr", "training", name="training")
    for node, place in dropouts:
        if isinstance(place, int):
            node.update_arg(place, training)
        else:
            node.update_kwarg(place, training)
    module.recompile()


class _ZeroedEntries:
    """A gradient hook: the gradient of some entries is zero (even where it would be infinite)."""

    def __init__(self, zero: torch.Tensor) -> None:
        self.zero = zero

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        self.zero = self.zero.to(gradient.device)
        return gradient.masked_fill(self.zero, 0)


def _hold_loaded(module: Any, _incompatible: Any) -> None:
    """After load_state_dict: a parameter that was replaced (``assign=True``) is held too; what is held is zero."""
    for name, held in list(vars(module).items()):
        if not isinstance(held, HeldEntries):
            continue
        parameter = getattr(module, name.removeprefix(_PREFIX))
        if held.weight is not parameter:
            setattr(module, name, HeldEntries(parameter, held.zero))
        with torch.no_grad():
            parameter.masked_fill_(held.zero.to(parameter.device), 0)


def _switched_off(node: fx.Node) -> int | str | None:
    """Where a dropout that was traced in eval mode says so: the position or name of an argument; None for others."""
    target: Any = node.target
    if node.op != "call_function" or not (target in _DROPOUTS or getattr(target, "__name__", "") in _DROPOUT_NAMES):
        return None
    if "training" in node.kwargs:
        return "training" if node.kwargs["training"] is False else None
    position = list(inspect.signature(target).parameters).index("training")
    return position if len(node.args) > position and node.args[position] is False else None
