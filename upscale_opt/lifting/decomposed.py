"""Recognises operators that a program has taken apart, such as ``addmm(bias, x, weight.t())`` for a linear layer.

``ExportedProgram.run_decompositions()`` leaves only core operators of ATen. `joined` spells them as the operators that
they were. What it does not know is left to `upscale_opt.lifting.calls`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx
from torch.nn import functional

from upscale_opt.lifting.calls import bound
from upscale_opt.operators.spellings import aten_name

_TRANSPOSED = ("t", "permute", "transpose")


def joined(graph: fx.Graph, node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Add the operator of which a node is a part, and return its results; a single result as a tuple of one.

    Parameters
    ----------
    graph
        The graph under construction.
    node
        The node of the program.
    args, kwargs
        Its arguments, as nodes of the graph and constants.

    Returns
    -------
    tuple or None
        None if the operator is not known, or if other results of it than the first are used.
    """
    name = aten_name(node.target)
    if name in ("mm", "addmm"):
        return _linear(graph, name, bound(node.target, args, kwargs))
    if name == "convolution":
        return (_convolution(graph, bound(node.target, args, kwargs)),)
    if name not in _FIRST_ONLY or any(user.args[1] != 0 for user in node.users):
        return None
    return (_FIRST_ONLY[name](graph, bound(node.target, args, kwargs)), None, None)


def _linear(graph: fx.Graph, name: str, given: dict[str, Any]) -> tuple[Any, ...] | None:
    x, matrix = (given["mat1"], given["mat2"]) if name == "addmm" else (given["self"], given["mat2"])
    if not isinstance(matrix, fx.Node) or not _is_transposed(matrix) or matrix.args[0].op != "get_attr":  # type: ignore[union-attr]
        return None
    bias = given["self"] if name == "addmm" else None
    if bias is not None and (bias.op != "get_attr" or bias.meta["val"].ndim != 1):
        return None
    if (given.get("alpha", 1), given.get("beta", 1)) != (1, 1):
        return None
    return (graph.call_function(functional.linear, (x, matrix.args[0], bias)),)


def _is_transposed(node: fx.Node) -> bool:
    """Whether a node of the graph transposes a matrix."""
    if node.target not in _TRANSPOSED or node.op != "call_method" or node.meta["val"].ndim != 2:
        return False
    dims = [own % 2 for own in node.args[1:] if isinstance(own, int)]
    return node.target == "t" or dims == [1, 0] or (node.target == "transpose" and set(dims) == {0, 1})


def _convolution(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    dims = len(given["stride"])
    first = (given["input"], given["weight"], given["bias"], given["stride"], given["padding"])
    if given["transposed"]:
        function = getattr(functional, f"conv_transpose{dims}d")
        return graph.call_function(function, (*first, given["output_padding"], given["groups"], given["dilation"]))
    return graph.call_function(getattr(functional, f"conv{dims}d"), (*first, given["dilation"], given["groups"]))


def _layer_norm(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    return graph.call_function(functional.layer_norm, tuple(given[name] for name in names))


def _group_norm(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    names = ("input", "group", "weight", "bias", "eps")
    return graph.call_function(functional.group_norm, tuple(given[name] for name in names))


def _batch_norm(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    names = ("input", "running_mean", "running_var", "weight", "bias")
    args = (*(given[name] for name in names), False, given["momentum"], given["eps"])
    return graph.call_function(functional.batch_norm, args)


def _max_pool(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    names = ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    args = [None if name == "stride" and not given[name] else given[name] for name in names]
    return graph.call_function(functional.max_pool2d, tuple(args))


def _attention(graph: fx.Graph, given: dict[str, Any]) -> fx.Node:
    names = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None}
    kwargs = {name: given[name] for name, default in names.items() if given[name] != default}
    function = functional.scaled_dot_product_attention
    return graph.call_function(function, (given["query"], given["key"], given["value"]), kwargs)


_FIRST_ONLY = {
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "max_pool2d_with_indices": _max_pool,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
}
"""Operators with several results to operators whose single result is the first of these."""
