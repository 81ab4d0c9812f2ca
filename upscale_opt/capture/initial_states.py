"""Initial states of recurrent layers that a forward creates as zeros: a layer starts with zeros anyway."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.shared_memory import kind_of

_ZEROS = (torch.zeros, torch.zeros_like, "new_zeros")
_PASSING = ("to", "cuda", "cpu", "float", "double", "half", "type", "type_as", "detach", "contiguous", "requires_grad_")
"""Methods that only change the type or device of zeros, or whether they have gradients."""


def start_from_zero(traced: fx.GraphModule) -> None:
    """Leave out the initial states of recurrent layers that are new zeros, in place.

    ``lstm(x, (torch.zeros(1, len(x), 8), torch.zeros(1, len(x), 8)))`` becomes ``lstm(x)``. In an export, the states
    then have as many units as the layer.

    Parameters
    ----------
    traced
        The traced model. Calls are in the form of `upscale_opt.capture.argument_names.normalise`.
    """
    changed = False
    for node in traced.graph.nodes:
        if not _takes_state(traced, node) or len(node.args) != 2 or node.kwargs:
            continue
        states: Any = node.args[1]
        given = list(states) if isinstance(states, (tuple, list)) else [states]
        if given and all(isinstance(own, fx.Node) and _is_zero(traced, own) for own in given):
            node.args = node.args[:1]
            changed = True
    if changed:
        for node in reversed(list(traced.graph.nodes)):
            if not node.users and _is_zero(traced, node):
                traced.graph.erase_node(node)
        traced.recompile()


def _is_zero(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node creates zeros that are given to recurrent layers only, so that nobody writes into them."""
    if not all(_takes_state(traced, user) or _passes(user) or kind_of(user) in _ZEROS for user in node.users):
        return False
    if _passes(node):
        source = node.args[0]
        return isinstance(source, fx.Node) and _is_zero(traced, source)
    return kind_of(node) in _ZEROS and "out" not in node.kwargs


def _passes(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target in _PASSING


def _takes_state(traced: fx.GraphModule, node: fx.Node) -> bool:
    module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase))
