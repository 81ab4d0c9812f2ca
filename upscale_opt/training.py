"""What makes an export train as the masked model does: dropped columns held at zero, dropout that can be switched on.

An over-read hands a consumer channels that its mask drops; their columns of the weight are zero, and a gradient
would change that. `HeldColumns` lets no gradient through to them: whatever an optimiser makes of a zero value with a
zero gradient, a zero momentum and weight decay, it is zero again.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.exports import ParameterSlice

_ATTRIBUTE = "held_columns"
_DROPOUTS = (
    *(functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d),
    *(functional.alpha_dropout, functional.feature_alpha_dropout),
)
_DROPOUT_NAMES = ("stochastic_depth", "shifted_window_attention")


def prepare_training(module: fx.GraphModule, slices: Mapping[str, ParameterSlice]) -> None:
    """Make a freshly rewritten module trainable, in place: `hold_dropped_columns` and `follow_training_mode`.

    Parameters
    ----------
    module
        The export's module.
    slices
        Which part of each original parameter it holds.
    """
    hold_dropped_columns(module, slices)
    follow_training_mode(module)


def hold_dropped_columns(module: nn.Module, slices: Mapping[str, ParameterSlice]) -> None:
    """Hold the columns at zero that a consumer reads although its mask drops them, in place.

    The names of the state_dict do not change, and copies of the module hold them too. Columns that were held in the
    module this one was made from stay held.
    """
    for name, piece in slices.items():
        path, _, attribute = name.rpartition(".")
        owner = module.get_submodule(path)
        inherited: HeldColumns | None = owner.__dict__.get(_ATTRIBUTE) if attribute == "weight" else None
        reasons = [] if piece.mask is None else [~piece.mask]
        if inherited is not None:
            reasons.append(inherited.zero.cpu().numpy())
            delattr(owner, _ATTRIBUTE)
        if not reasons:
            continue
        zero = np.logical_or.reduce(reasons)
        if piece.columns is not None:
            zero = zero[piece.columns]
        if zero.any():
            setattr(owner, _ATTRIBUTE, HeldColumns(owner.get_parameter(attribute), torch.from_numpy(zero)))
            if inherited is None:
                owner.register_load_state_dict_post_hook(_hold_loaded)


class HeldColumns:
    """Columns of a weight that stay zero: a gradient hook that is copied along with the weight.

    A tensor's hooks are lost when it is copied. This object is an attribute of the module that owns the weight; a
    deep copy (or pickle) of the module copies it too, and the copy registers the hook on the copied weight.

    Parameters
    ----------
    weight
        Shape (rows, columns, ...).
    zero
        bool, shape (columns,): True = held at zero.
    """

    def __init__(self, weight: nn.Parameter, zero: torch.Tensor) -> None:
        self.weight = weight
        self.zero = zero
        trained = weight.requires_grad
        weight.requires_grad_(True).register_hook(_ZeroedColumns(zero))  # a frozen weight takes no hook
        weight.requires_grad_(trained)

    def __deepcopy__(self, memo: dict[int, Any]) -> HeldColumns:
        return HeldColumns(copy.deepcopy(self.weight, memo), self.zero)

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldColumns, (self.weight, self.zero)


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


class _ZeroedColumns:
    """A gradient hook: the columns' gradient is zero (even where it would be infinite)."""

    def __init__(self, zero: torch.Tensor) -> None:
        self.zero = zero

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        self.zero = self.zero.to(gradient.device)
        return gradient.masked_fill(_broadcast(self.zero, gradient), 0)


def _hold_loaded(module: Any, _incompatible: Any) -> None:
    """After load_state_dict: a parameter that was replaced (``assign=True``) is held too; what is held is zero."""
    held = getattr(module, _ATTRIBUTE, None)
    if held is None:
        return
    if held.weight is not module.weight:
        setattr(module, _ATTRIBUTE, HeldColumns(module.weight, held.zero))
    with torch.no_grad():
        module.weight.masked_fill_(_broadcast(held.zero.to(module.weight.device), module.weight), 0)


def _broadcast(zero: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return zero.reshape(1, -1, *[1] * (weight.ndim - 2))


def _switched_off(node: fx.Node) -> int | str | None:
    """Where a dropout that was traced in eval mode says so: the position or name of an argument; None for others."""
    target: Any = node.target
    if node.op != "call_function" or not (target in _DROPOUTS or getattr(target, "__name__", "") in _DROPOUT_NAMES):
        return None
    if "training" in node.kwargs:
        return "training" if node.kwargs["training"] is False else None
    position = list(inspect.signature(target).parameters).index("training")
    return position if len(node.args) > position and node.args[position] is False else None
