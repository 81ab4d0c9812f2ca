"""Spells calls of ATen operators as a network's code would: by functions of torch, by methods, by Python's operators.

``aten.slice.Tensor(x, 1, 0, 4)`` becomes ``x[:, 0:4]``. Operators that have no such spelling stay as they are: the
table of operators knows them by their ATen names (`upscale_opt.operators.spellings.aten_name`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.nn import functional

from upscale_opt.operators.spellings import aten_name

Given = dict[str, Any]
Spelling = Callable[[fx.Graph, Given], Any]
TO_THE_END = 2**63 - 1
"""The bound of a slice that has no end."""
ASSERTIONS = ("_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range")
"""Beginnings of the names of operators that only check something."""


def spelled(graph: fx.Graph, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Add a call of an operator to a graph, and return its result: a node, or one of the arguments.

    Parameters
    ----------
    graph
        The graph under construction.
    target
        The operator, an overload of `torch.ops`.
    args, kwargs
        Its arguments, as nodes of the graph and constants.
    """
    name = aten_name(target)
    if name is None:
        return graph.call_function(target, args, dict(kwargs))
    given = bound(target, args, kwargs)
    if name in _SPELLINGS:
        return _SPELLINGS[name](graph, given)
    plain = name.removesuffix("_")
    if plain in _FUNCTIONAL:
        return _functional(graph, plain, given, in_place=plain != name)
    return _as_written(graph, target, name, args, kwargs)


def bound(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Given:
    """Return all arguments of an operator by the names of its schema, defaults included."""
    schema = target._schema.arguments
    given = {own.name: own.default_value for own in schema if own.has_default_value()}
    return {**given, **{own.name: value for own, value in zip(schema, args, strict=False)}, **kwargs}


def _as_written(graph: fx.Graph, target: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a method or a function of torch with the same name and arguments; else the operator itself."""
    kwargs = {key: own for key, own in kwargs.items() if own is not None and not (key == "pin_memory" and not own)}
    first = target._schema.arguments[0] if target._schema.arguments else None
    of_tensor = first is not None and str(first.type) == "Tensor" and bool(args) and isinstance(args[0], fx.Node)
    if of_tensor and name not in _AS_FUNCTIONS and callable(getattr(torch.Tensor, name, None)):
        return graph.call_method(name, args, kwargs)
    for home, prefix in ((torch, ""), (torch._C._nn, ""), (torch.special, "special_"), (torch.linalg, "linalg_")):
        function = getattr(home, name.removeprefix(prefix), None)
        if callable(function) and not isinstance(function, type):
            return graph.call_function(function, args, kwargs)
    return graph.call_function(target, args, kwargs)


_AS_FUNCTIONS = ("where",)
"""Operators that are methods, too, but whose functions have the order of the arguments of ATen."""


def _functional(graph: fx.Graph, name: str, given: Given, *, in_place: bool) -> Any:
    """Call a function of `torch.nn.functional`. Arguments with their default values are left out."""
    function, names = _FUNCTIONAL[name]
    kwargs = {theirs: given[own] for own, theirs in names.items() if given[own] != _DEFAULTS.get(theirs)}
    return graph.call_function(function, (given["self"],), {**kwargs, **({"inplace": True} if in_place else {})})


_FUNCTIONAL: dict[str, tuple[Callable[..., Any], dict[str, str]]] = {
    "celu": (functional.celu, {"alpha": "alpha"}),
    "gelu": (functional.gelu, {"approximate": "approximate"}),
    "glu": (functional.glu, {"dim": "dim"}),
    "hardsigmoid": (functional.hardsigmoid, {}),
    "hardswish": (functional.hardswish, {}),
    "hardtanh": (functional.hardtanh, {"min_val": "min_val", "max_val": "max_val"}),
    "leaky_relu": (functional.leaky_relu, {"negative_slope": "negative_slope"}),
    "log_sigmoid": (functional.logsigmoid, {}),
    "mish": (functional.mish, {}),
    "relu6": (functional.relu6, {}),
    "selu": (functional.selu, {}),
    "silu": (functional.silu, {}),
    "softplus": (functional.softplus, {"beta": "beta", "threshold": "threshold"}),
    "pixel_shuffle": (functional.pixel_shuffle, {"upscale_factor": "upscale_factor"}),
    "pixel_unshuffle": (functional.pixel_unshuffle, {"downscale_factor": "downscale_factor"}),
    "channel_shuffle": (functional.channel_shuffle, {"groups": "groups"}),
}
"""Operators of one tensor to functions of `torch.nn.functional`, and the names of their arguments to those there."""
_DEFAULTS: dict[str, Any] = {"alpha": 1.0, "approximate": "none", "beta": 1, "threshold": 20}


def _slice(graph: fx.Graph, given: Given) -> Any:
    x, start, end, step = given["self"], given["start"], given["end"], given["step"]
    end = None if type(end) is int and end == TO_THE_END else end
    if start in (0, None) and end is None and step == 1:
        return x
    dim = given["dim"] % x.meta["val"].ndim
    own = slice(None if start == 0 else start, end, None if step == 1 else step)
    return graph.call_function(operator.getitem, (x, (slice(None),) * dim + (own,)))


def _index(graph: fx.Graph, given: Given) -> Any:
    indices = tuple(slice(None) if own is None else own for own in given["indices"])
    return graph.call_function(operator.getitem, (given["self"], indices))


def _method(name: str, *names: str) -> Spelling:
    """A method whose arguments are some of the operator's, lists given entry by entry."""

    def call(graph: fx.Graph, given: Given) -> Any:
        args: list[Any] = []
        for own in names:
            args += given[own] if isinstance(given[own], (tuple, list)) else [given[own]]
        return graph.call_method(name, (given["self"], *args))

    return call


def _function(function: Callable[..., Any], *names: str, **named: str) -> Spelling:
    """A function that gets the operator's arguments in this order, and others by keyword if they are not None."""

    def call(graph: fx.Graph, given: Given) -> Any:
        kwargs = {own: given[name] for own, name in named.items() if given[name] not in (None, False, 0.0)}
        return graph.call_function(function, tuple(given[name] for name in names), kwargs)

    return call


def _arithmetic(name: str, of_python: Callable[..., Any] | None) -> Spelling:
    """``+`` and others; the function of torch if there is a factor (``alpha``) or a rounding mode."""

    def call(graph: fx.Graph, given: Given) -> Any:
        operands = (given["self"], given["other"])
        more = {own: given[own] for own in ("alpha", "rounding_mode") if given.get(own, 1) not in (1, None)}
        if more or of_python is None:
            return graph.call_function(getattr(torch, name), operands, more)
        return graph.call_function(of_python, operands)

    return call


def _in_place(name: str) -> Spelling:
    def call(graph: fx.Graph, given: Given) -> Any:
        more = {own: given[own] for own in ("alpha", "rounding_mode") if given.get(own, 1) not in (1, None)}
        return graph.call_method(name, (given["self"], given["other"]), more)

    return call


def _first(graph: fx.Graph, given: Given) -> Any:
    return given["self"]


def _converted(graph: fx.Graph, given: Given) -> Any:
    """``to``: a device that the tensor has already is left out, so that an export may move to another one."""
    x = given["self"]
    if "other" in given:
        return graph.call_method("type_as", (x, given["other"]))
    here = given.get("device") == x.meta["val"].device if "val" in x.meta else False
    kwargs = {name: given[name] for name in ("dtype", "device") if given.get(name) is not None}
    if here:
        del kwargs["device"]
    if given.get("copy", "copy" not in given):
        kwargs["copy"] = True
    return graph.call_method("to", (x,), kwargs) if kwargs else x


def _elu(graph: fx.Graph, given: Given) -> Any:
    if (given["scale"], given["input_scale"]) != (1, 1):
        return graph.call_function(torch.ops.aten.elu.default, tuple(given.values()))
    return graph.call_function(functional.elu, (given["self"], given["alpha"]))


def _attribute(name: str) -> Spelling:
    return lambda graph, given: graph.call_function(getattr, (given["self"], name))


def _einsum(graph: fx.Graph, given: Given) -> Any:
    return graph.call_function(torch.einsum, (given["equation"], *given["tensors"]))


def _resized(mode: str) -> Spelling:
    def call(graph: fx.Graph, given: Given) -> Any:
        kwargs: dict[str, Any] = {"mode": mode}
        size, factors = given.get("output_size"), given.get("scale_factors")
        if factors is not None:
            kwargs["scale_factor"] = list(factors) if len(set(factors)) > 1 else factors[0]
        elif size is not None:
            kwargs["size"] = tuple(size)
        if "align_corners" in given:
            kwargs["align_corners"] = given["align_corners"]
        return graph.call_function(
            functional.interpolate, (given["input"] if "input" in given else given["self"],), kwargs
        )

    return call


def _convolution(dims: int, *, transposed: bool = False) -> Spelling:
    function = getattr(functional, f"conv{'_transpose' if transposed else ''}{dims}d")
    names = ("stride", "padding", *(("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")))

    def call(graph: fx.Graph, given: Given) -> Any:
        args = (given["input"], given["weight"], given["bias"], *(given[name] for name in names))
        return graph.call_function(function, args)

    return call


def _embedding(graph: fx.Graph, given: Given) -> Any:
    padding = given["padding_idx"]
    kwargs: dict[str, Any] = {"padding_idx": padding} if type(padding) is int and padding >= 0 else {}
    return graph.call_function(functional.embedding, (given["indices"], given["weight"]), kwargs)


def _pooled(name: str, *names: str) -> Spelling:
    function = getattr(functional, name)

    def call(graph: fx.Graph, given: Given) -> Any:
        args = [None if isinstance(own := given[key], (tuple, list)) and not own else own for key in names]
        return graph.call_function(function, (given["self"], *args))

    return call


_NORM = ("weight", "bias")
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_SPELLINGS: dict[str, Spelling] = {
    "alias": _first,
    "lift_fresh_copy": _method("clone"),
    "detach_": _first,
    "to": _converted,
    "_to_copy": _converted,
    "elu": _elu,
    "numpy_T": _attribute("T"),
    "mT": _attribute("mT"),
    "linalg_vector_norm": _function(torch.linalg.vector_norm, "self", "ord", "dim", "keepdim"),
    "_unsafe_view": _method("reshape", "size"),
    "view": _method("view", "size"),
    "reshape": _method("reshape", "shape"),
    "expand": _method("expand", "size"),
    "permute": _method("permute", "dims"),
    "repeat": _method("repeat", "repeats"),
    "sym_size": _method("size", "dim"),
    "sym_numel": _method("numel"),
    "slice": _slice,
    "index": _index,
    "add": _arithmetic("add", operator.add),
    "sub": _arithmetic("sub", operator.sub),
    "mul": _arithmetic("mul", operator.mul),
    "div": _arithmetic("div", operator.truediv),
    **{f"{name}_": _in_place(f"{name}_") for name in ("add", "sub", "mul", "div")},
    "matmul": _function(operator.matmul, "self", "other"),
    "einsum": _einsum,
    "linear": _function(functional.linear, "input", "weight", "bias"),
    **{f"conv{d}d": _convolution(d) for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": _convolution(d, transposed=True) for d in (1, 2, 3)},
    "batch_norm": _function(
        *(functional.batch_norm, "input", "running_mean", "running_var", *_NORM, "training", "momentum", "eps")
    ),
    "instance_norm": _function(
        *(functional.instance_norm, "input", "running_mean", "running_var", *_NORM, "use_input_stats"),
        *("momentum", "eps"),
    ),
    "layer_norm": _function(functional.layer_norm, "input", "normalized_shape", *_NORM, "eps"),
    "rms_norm": _function(functional.rms_norm, "input", "normalized_shape", "weight", "eps"),
    "group_norm": _function(functional.group_norm, "input", "num_groups", *_NORM, "eps"),
    "scaled_dot_product_attention": _function(
        *(functional.scaled_dot_product_attention, "query", "key", "value"),
        attn_mask="attn_mask",
        dropout_p="dropout_p",
        is_causal="is_causal",
        scale="scale",
        enable_gqa="enable_gqa",
    ),
    "dropout": _function(functional.dropout, "input", "p", "train"),
    "feature_dropout": _function(torch.feature_dropout, "input", "p", "train"),
    "alpha_dropout": _function(functional.alpha_dropout, "input", "p", "train"),
    "embedding": _embedding,
    "pad": _function(functional.pad, "self", "pad", "mode", "value"),
    "prelu": _function(functional.prelu, "self", "weight"),
    "_softmax": _method("softmax", "dim"),
    "_log_softmax": _method("log_softmax", "dim"),
    **{f"max_pool{d}d": _pooled(f"max_pool{d}d", *_MAX) for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": _pooled(f"adaptive_avg_pool{d}d", "output_size") for d in (1, 2, 3)},
    **{f"_adaptive_avg_pool{d}d": _pooled(f"adaptive_avg_pool{d}d", "output_size") for d in (2, 3)},
    "avg_pool1d": _pooled("avg_pool1d", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    **{
        f"avg_pool{d}d": _pooled(
            *(f"avg_pool{d}d", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
            "divisor_override",
        )
        for d in (2, 3)
    },
    **{
        f"upsample_{name}": _resized(mode)
        for mode, names in {
            "nearest": ("nearest1d", "nearest2d", "nearest3d"),
            "nearest-exact": ("nearest_exact1d", "nearest_exact2d", "nearest_exact3d"),
            "linear": ("linear1d",),
            "bilinear": ("bilinear2d",),
            "bicubic": ("bicubic2d",),
            "trilinear": ("trilinear3d",),
        }.items()
        for name in names
    },
    **{
        f"_upsample_{name}": _resized("nearest-exact")
        for name in ("nearest_exact1d", "nearest_exact2d", "nearest_exact3d")
    },
}
"""Names of ATen operators to their spellings."""
