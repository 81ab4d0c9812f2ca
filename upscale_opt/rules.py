"""How channels flow through operators: one table, operator -> rule.

A rule is a function ``rule(flow, node) -> Layout | None``: it looks at the layouts of the node's inputs through
`flow` (`upscale_opt.flow.Flow`), ties, cuts or pins channels, and returns the layout of the node's output
(None for anything that is not a tensor with channels). A rule that meets a case it does not understand returns
``flow.unknown(node)``, which pins: never guess. To teach the tracer an operator, add an entry here and a test.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.channels import Layout
from upscale_opt.flow import Flow

Rule = Callable[[Flow, fx.Node], Layout | None]


def convolution(flow: Flow, node: fx.Node) -> Layout | None:
    """groups = 1: reads its input, produces new channels; depthwise: channels pass; other groups: pinned."""
    module, x = flow.module(node), flow.layout(flow.source(node))
    dims = module.weight.ndim
    if x is None or x.axis != 1 or x.size != 1 or len(flow.shape(flow.source(node))) != dims:
        return flow.unknown(node)
    if len(x.channels) != module.in_channels:
        return flow.unknown(node)
    if module.groups == 1:
        return flow.consume(node, x, module.out_channels)
    if module.groups == module.in_channels == module.out_channels:
        flow.follow(node, x)
        return x
    return flow.unknown(node, f"grouped convolution ({module.groups} groups)")


def linear(flow: Flow, node: fx.Node) -> Layout | None:
    """Reads its input along the last axis and produces new channels there."""
    module, x = flow.module(node), flow.layout(flow.source(node))
    ndim = len(flow.shape(flow.source(node)))
    if x is None or x.axis != ndim - 1 or len(x.channels) * x.size != module.in_features:
        return flow.unknown(node)
    return flow.consume(node, x, module.out_features)


def batch_norm(flow: Flow, node: fx.Node) -> Layout | None:
    """Statistics and affine parameters follow the channels."""
    module, x = flow.module(node), flow.layout(flow.source(node))
    if x is None or x.axis != 1 or len(x.channels) * x.size != module.num_features:
        return flow.unknown(node)
    flow.follow(node, x)
    return x


def elementwise(flow: Flow, node: fx.Node) -> Layout | None:
    """Operands with channels at the same broadcast position are tied; a constant along that axis pins them."""
    if not flow.is_tensor(node):
        # Arithmetic on sizes and the like: nothing to follow, but no channel may hide in it.
        return None if not flow.input_layouts(node) else flow.unknown(node)
    operands = [operand for operand in node.all_input_nodes if flow.is_tensor(operand)]
    layouts = {operand: flow.layout(operand) for operand in operands}
    known = [(operand, layout) for operand, layout in layouts.items() if layout is not None]
    if not known:
        return flow.opaque(node)
    ndim = len(flow.shape(node))
    from_right = {len(flow.shape(operand)) - layout.axis for operand, layout in known}
    sizes = {layout.size for _, layout in known}
    if len(from_right) > 1 or len(sizes) > 1:
        return flow.unknown(node, "channels on different axes")
    position = from_right.pop()
    if flow.shape(node)[ndim - position] != max(len(layout.channels) * layout.size for _, layout in known):
        return flow.unknown(node, "channels broadcast against something else")
    for operand in operands:
        shape = flow.shape(operand)
        if layouts[operand] is None and len(shape) >= position and shape[-position] != 1:
            return flow.unknown(node, "constant along the channel axis")
    width = max(len(layout.channels) for _, layout in known)
    wide = [layout for _, layout in known if len(layout.channels) == width]
    for operand, layout in known:
        if len(layout.channels) != width:
            flow.table.pin(layout.channels, "one channel broadcast over many", operand.name)
    for layout in wide[1:]:
        flow.table.tie(wide[0].channels, layout.channels)
    return Layout(ndim - position, wide[0].channels, wide[0].size)


def pooling(num_spatial: int) -> Rule:
    """Spatial operators over the last `num_spatial` axes leave the channels alone."""

    def rule(flow: Flow, node: fx.Node) -> Layout | None:
        x = flow.layout(flow.source(node))
        if x is None or not flow.is_tensor(node) or x.axis >= len(flow.shape(flow.source(node))) - num_spatial:
            return flow.unknown(node)
        return x

    rule.__doc__ = pooling.__doc__
    return rule


def flatten(flow: Flow, node: fx.Node) -> Layout | None:
    """A flatten that starts at the channel axis gives every channel the size of what follows."""
    if node.op == "call_module":
        module = flow.module(node)
        start, end = module.start_dim, module.end_dim
    else:
        start = flow.argument(node, 1, "start_dim", 0)
        end = flow.argument(node, 2, "end_dim", -1)
    x, shape = flow.layout(flow.source(node)), flow.shape(flow.source(node))
    if x is None or not isinstance(start, int) or not isinstance(end, int):
        return flow.unknown(node)
    start, end = start % len(shape), end % len(shape)
    if start > x.axis:
        return x
    if start < x.axis:
        return flow.unknown(node)
    return Layout(x.axis, x.channels, x.size * math.prod(shape[start + 1 : end + 1]))


def reshape(flow: Flow, node: fx.Node) -> Layout | None:
    """Only ``x.view(n, -1)``, a flatten from the channel axis on; any other reshape pins."""
    x, shape, result = flow.layout(flow.source(node)), flow.shape(flow.source(node)), flow.shape(node)
    given = tuple(node.args[1:])
    sizes = tuple(given[0]) if given and isinstance(given[0], (tuple, list)) else given
    if x is None or x.axis != 1 or len(sizes) != 2 or sizes[1] != -1 or result[0] != shape[0]:
        return flow.unknown(node)
    return Layout(1, x.channels, x.size * math.prod(shape[2:]))


def reduction(flow: Flow, node: fx.Node) -> Layout | None:
    """Over other axes the channels stay; over the channel axis all of them are needed, in any order."""
    x, shape = flow.layout(flow.source(node)), flow.shape(flow.source(node))
    if x is None:
        return flow.unknown(node)
    dims = flow.argument(node, 1, "dim", None)
    keep = flow.argument(node, 2, "keepdim", False)
    if dims is not None and not (isinstance(dims, int) or all(isinstance(d, int) for d in dims)):
        return flow.unknown(node)
    listed = range(len(shape)) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {d % len(shape) for d in listed}
    if x.axis in axes:
        flow.table.need(x.channels)
        return flow.opaque(node)
    return Layout(x.axis if keep else x.axis - sum(d < x.axis for d in axes), x.channels, x.size)


def concat(flow: Flow, node: fx.Node) -> Layout | None:
    """Along the channel axis the channels are concatenated; along another axis they are tied."""
    tensors = flow.argument(node, 0, "tensors", ())
    dim = flow.argument(node, 1, "dim", 0)
    layouts = [flow.layout(tensor) for tensor in tensors]
    known = [layout for layout in layouts if layout is not None]
    if len(known) < len(layouts) or len({(layout.axis, layout.size) for layout in known}) != 1:
        return flow.unknown(node)
    first = known[0]
    if dim % len(flow.shape(node)) == first.axis:
        return Layout(first.axis, np.concatenate([layout.channels for layout in known]), first.size)
    for layout in known[1:]:
        flow.table.tie(first.channels, layout.channels)
    return first


def get_item(flow: Flow, node: fx.Node) -> Layout | None:
    """Slices with constant bounds cut the channels; anything else along the channel axis pins."""
    source, index = flow.source(node), flow.argument(node, 1, "index", None)
    x = flow.layout(source)
    if x is None:
        return flow.opaque(node)
    if not flow.is_tensor(source):
        return None
    entries: list[Any] = list(index) if isinstance(index, tuple) else [index]
    given = len(entries)
    ndim = len(flow.shape(source))
    ellipses = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    for at in ellipses[:1]:
        entries[at : at + 1] = [slice(None)] * (ndim - given + 1)
    if not all(isinstance(entry, slice) or type(entry) is int for entry in entries):
        return flow.unknown(node)
    axis = x.axis - sum(type(entry) is int for entry in entries[: x.axis])
    entry = entries[x.axis] if x.axis < len(entries) else slice(None)
    if entry == slice(None):
        return Layout(axis, x.channels, x.size)
    if type(entry) is int:
        return flow.unknown(node, "a single channel is taken out")
    if not all(bound is None or type(bound) is int for bound in (entry.start, entry.stop, entry.step)):
        return flow.unknown(node, "the bounds of a channel slice are computed")
    start, stop, step = entry.indices(len(x.channels) * x.size)
    if step != 1:
        return flow.unknown(node, "a strided channel slice")
    behind_ellipsis = bool(ellipses) and x.axis > ellipses[0]
    position = x.axis - (len(entries) - given if behind_ellipsis else 0)
    return flow.slice(node, x, axis, start, stop, position)


def narrow(flow: Flow, node: fx.Node) -> Layout | None:
    """As a slice with constant bounds."""
    x, shape = flow.layout(flow.source(node)), flow.shape(flow.source(node))
    dim, start, length = (flow.argument(node, i, name, None) for i, name in ((1, "dim"), (2, "start"), (3, "length")))
    if x is None or type(dim) is not int:
        return flow.unknown(node)
    if dim % len(shape) != x.axis:
        return x
    if type(start) is not int or type(length) is not int:
        return flow.unknown(node, "the bounds of a channel slice are computed")
    start %= shape[x.axis]
    return flow.slice(node, x, x.axis, start, start + length, None)


def get_attribute(flow: Flow, node: fx.Node) -> Layout | None:
    """``x.shape``: harmless as long as nobody looks at the number of channels."""
    name = node.args[1]
    if name in ("dtype", "device", "ndim", "requires_grad", "is_cuda"):
        return None
    return shape_of(flow, node) if name == "shape" else flow.unknown(node)


def shape_of(flow: Flow, node: fx.Node) -> Layout | None:
    """The size of a tensor: whoever uses its number of channels pins them."""
    source = flow.source(node)
    x = flow.layout(source)
    if x is None:
        return None
    ndim = len(flow.shape(source))
    dim = flow.argument(node, 1, "dim", None) if node.op == "call_method" else None

    def harmless(entry: Any) -> bool:
        return type(entry) is int and entry % ndim != x.axis

    users = list(node.users)
    fine = harmless(dim) or (
        dim is None
        and all(
            user.op == "call_function"
            and user.target is operator.getitem
            and (harmless(user.args[1]) or not user.users)  # unpacking a size makes nodes that nobody uses
            for user in users
        )
    )
    if not fine:
        flow.table.pin(x.channels, "its number of channels is used in a computation", node.name)
    return None


_POOLING = {
    1: (nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    3: (nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}
_POOLING_FUNCTIONS = {
    1: (functional.max_pool1d, functional.avg_pool1d, functional.adaptive_avg_pool1d),
    2: (functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    3: (functional.max_pool3d, functional.avg_pool3d, functional.adaptive_avg_pool3d),
}
_ELEMENTWISE_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.RReLU),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Hardshrink, nn.Softshrink),
    *(nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
_ELEMENTWISE_FUNCTIONS = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.neg, operator.floordiv),
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.mod, operator.abs),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.neg, torch.abs, torch.maximum, torch.minimum),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.square, torch.clamp),
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.celu, functional.selu),
    *(functional.gelu, functional.silu, functional.mish, functional.sigmoid, functional.hardsigmoid),
    *(functional.hardswish, functional.hardtanh, functional.tanh, functional.softplus, functional.softsign),
    *(functional.dropout, functional.dropout2d, functional.dropout3d, functional.alpha_dropout),
)
_ELEMENTWISE_METHODS = (
    *("add", "sub", "mul", "div", "pow", "neg", "abs", "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt"),
    *("square", "clamp", "add_", "sub_", "mul_", "div_", "relu_", "sigmoid_", "clamp_", "contiguous", "clone"),
    *("detach", "float", "double", "half", "maximum", "minimum"),
)

MODULE_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    nn.Linear: linear,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), batch_norm),
    **dict.fromkeys(_ELEMENTWISE_MODULES, elementwise),
    **{kind: pooling(dims) for dims, kinds in _POOLING.items() for kind in kinds},
    nn.Flatten: flatten,
}
"""Exact module types (a subclass may do anything) to rules."""

FUNCTION_RULES: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys(_ELEMENTWISE_FUNCTIONS, elementwise),
    **{function: pooling(dims) for dims, functions in _POOLING_FUNCTIONS.items() for function in functions},
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concat),
    **dict.fromkeys((torch.mean, torch.sum, torch.amax, torch.amin), reduction),
    torch.flatten: flatten,
    torch.narrow: narrow,
    operator.getitem: get_item,
    getattr: get_attribute,
}
"""Functions to rules; torchvision's ``stochastic_depth`` is matched by name (see `rule_of_function`)."""

METHOD_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE_METHODS, elementwise),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), reduction),
    **dict.fromkeys(("view", "reshape"), reshape),
    "flatten": flatten,
    "narrow": narrow,
    "size": shape_of,
    "dim": lambda flow, node: None,
}
"""Tensor methods to rules."""


def rule_of_function(function: Callable[..., Any]) -> Rule | None:
    """The rule of a function, or None; stochastic depth is elementwise (one factor per sample)."""
    if getattr(function, "__name__", "") == "stochastic_depth":
        return elementwise
    return FUNCTION_RULES.get(function)
