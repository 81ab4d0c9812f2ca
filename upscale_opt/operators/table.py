"""The table from operators to rules. One new entry adds an operator."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.capture.custom_functions import CustomFunction
from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.errors import ModelError
from upscale_opt.modules.matrix_convolution import MatrixConv2d
from upscale_opt.modules.selections import Gather
from upscale_opt.operators import attention, normalisations, selections, shapes, sizes, weights
from upscale_opt.operators.elementwise import (
    deviation,
    elementwise,
    extremum,
    norm,
    pad,
    pooling,
    reduction,
    resize,
    same,
)

Rule = Callable[[Flow, fx.Node], Value]

CONCATS = (torch.cat, torch.concat, torch.concatenate)
"""Functions that join tensors along one axis."""
_POOLING_MODULES = {
    1: (nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    3: (nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
}
_POOLING_FUNCTIONS = {
    1: (functional.max_pool1d, functional.avg_pool1d, functional.adaptive_avg_pool1d, functional.adaptive_max_pool1d),
    2: (functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
    3: (functional.max_pool3d, functional.avg_pool3d, functional.adaptive_avg_pool3d, functional.adaptive_max_pool3d),
}
ELEMENTWISE_MODULES = (  # modules that compute every element independently
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.RReLU),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Hardshrink, nn.Softshrink),
    *(nn.Tanh, nn.Tanhshrink, nn.Softplus, nn.Softsign, nn.Threshold, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)
CHANNELWISE_MODULES = (  # modules that keep the channels, and compute each from the same channel of their input
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.PReLU, nn.Flatten),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
    *ELEMENTWISE_MODULES,
    *(kind for kinds in _POOLING_MODULES.values() for kind in kinds),
)
_ELEMENTWISE_FUNCTIONS = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.neg, operator.floordiv),
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.mod, operator.abs),
    *(operator.ipow, operator.ifloordiv, operator.imod, operator.iand, operator.ior, operator.ixor),
    *(operator.ilshift, operator.irshift, operator.and_, operator.or_, operator.xor, operator.invert),
    *(operator.lshift, operator.rshift, operator.pos),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.neg, torch.abs, torch.maximum, torch.minimum),
    *(torch.relu, torch.sigmoid, torch.tanh, torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.square, torch.clamp),
    *(torch.sin, torch.cos, torch.erf, torch.sign, torch.round, torch.floor, torch.ceil, torch.reciprocal, torch.where),
    *(torch.addcmul, torch.addcdiv),
    *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.celu, functional.selu),
    *(functional.gelu, functional.silu, functional.mish, functional.sigmoid, functional.hardsigmoid),
    *(functional.hardswish, functional.hardtanh, functional.tanh, functional.softplus, functional.softsign),
    *(functional.dropout, functional.dropout2d, functional.dropout3d, functional.alpha_dropout),
    *(functional.logsigmoid, functional.tanhshrink, functional.hardshrink, functional.softshrink),
)
_ELEMENTWISE_METHODS = (
    *("add", "sub", "mul", "div", "pow", "neg", "abs", "relu", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt"),
    *("square", "clamp", "add_", "sub_", "mul_", "div_", "relu_", "sigmoid_", "tanh_", "clamp_", "maximum", "minimum"),
    *("pow_", "floor_divide", "floor_divide_", "remainder", "remainder_", "copy_"),
    *("sin", "cos", "erf", "sign", "round", "floor", "ceil", "reciprocal", "masked_fill", "masked_fill_", "where"),
)
_SAME_METHODS = ("contiguous", "clone", "detach", "float", "double", "half", "bfloat16")
_RESHAPES = {"flatten": shapes.flatten, "squeeze": shapes.squeeze, "unsqueeze": shapes.unsqueeze}
_PADDINGS = ("ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad")

MODULE_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, MatrixConv2d), weights.convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), weights.convolution),
    nn.Linear: weights.linear,
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), normalisations.batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), normalisations.batch_norm),
    nn.LayerNorm: normalisations.layer_norm,
    nn.RMSNorm: normalisations.layer_norm,
    nn.GroupNorm: normalisations.group_norm,
    nn.LocalResponseNorm: normalisations.local_response_norm,
    nn.PReLU: normalisations.prelu,
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), normalisations.softmax),
    **dict.fromkeys(ELEMENTWISE_MODULES, elementwise),
    **{kind: pooling(dims) for dims, kinds in _POOLING_MODULES.items() for kind in kinds},
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), resize),
    **{kind: pad for prefix in _PADDINGS for d in (1, 2, 3) if (kind := getattr(nn, f"{prefix}{d}d", None))},
    nn.GLU: selections.gated,
    nn.Flatten: shapes.flatten,
    nn.ChannelShuffle: shapes.channel_shuffle,
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle), shapes.pixel_shuffle),
    Gather: shapes.gather,
    nn.MultiheadAttention: attention.multi_head_attention,
}
"""Module classes to rules. A subclass does not use its parent's rule, because it may do anything."""

FUNCTION_RULES: dict[Callable[..., Any], Rule] = {
    **dict.fromkeys((functional.conv1d, functional.conv2d, functional.conv3d), weights.functional_convolution),
    **dict.fromkeys(
        (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
        weights.functional_convolution,
    ),
    functional.linear: weights.functional_linear,
    functional.batch_norm: normalisations.functional_batch_norm,
    functional.layer_norm: normalisations.functional_layer_norm,
    functional.group_norm: normalisations.functional_group_norm,
    functional.local_response_norm: normalisations.local_response_norm,
    functional.prelu: normalisations.prelu,
    functional.normalize: normalisations.normalize,
    **dict.fromkeys(
        (torch.softmax, torch.log_softmax, functional.softmax, functional.log_softmax), normalisations.softmax
    ),
    **dict.fromkeys(_ELEMENTWISE_FUNCTIONS, elementwise),
    **{function: pooling(dims) for dims, functions in _POOLING_FUNCTIONS.items() for function in functions},
    functional.interpolate: resize,
    functional.pad: pad,
    **dict.fromkeys(CONCATS, selections.concat),
    torch.stack: selections.stack,
    **dict.fromkeys((torch.chunk, torch.split, torch.tensor_split), selections.split),
    torch.unbind: selections.unbind,
    functional.glu: selections.gated,
    torch.narrow: selections.narrow,
    operator.getitem: selections.get_item,
    **dict.fromkeys((torch.mean, torch.sum, torch.amax, torch.amin, torch.prod, torch.logsumexp), reduction),
    **dict.fromkeys((torch.norm, torch.linalg.vector_norm), norm),
    **dict.fromkeys((torch.var, torch.std), deviation),
    **dict.fromkeys((torch.max, torch.min), extremum),
    **{getattr(torch, name): rule for name, rule in _RESHAPES.items()},
    torch.reshape: shapes.reshape,
    torch.unflatten: shapes.unflatten,
    torch.permute: shapes.permute,
    **dict.fromkeys((torch.transpose, torch.swapaxes, torch.swapdims), shapes.transpose),
    torch.t: shapes.transpose_matrix,
    **dict.fromkeys((functional.pixel_shuffle, functional.pixel_unshuffle), shapes.pixel_shuffle),
    functional.channel_shuffle: shapes.channel_shuffle,
    torch.channel_shuffle: shapes.channel_shuffle,
    getattr: sizes.get_attribute,
}
"""Functions to rules."""

METHOD_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE_METHODS, elementwise),
    **dict.fromkeys(_SAME_METHODS, same),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "prod", "logsumexp"), reduction),
    "norm": norm,
    **dict.fromkeys(("var", "std"), deviation),
    **dict.fromkeys(("max", "min"), extremum),
    **dict.fromkeys(("view", "reshape"), shapes.reshape),
    **_RESHAPES,
    "unflatten": shapes.unflatten,
    "permute": shapes.permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), shapes.transpose),
    "t": shapes.transpose_matrix,
    "expand": shapes.expand,
    "expand_as": shapes.expand_as,
    "repeat": shapes.repeat,
    **dict.fromkeys(("chunk", "split", "tensor_split"), selections.split),
    "unbind": selections.unbind,
    "narrow": selections.narrow,
    **dict.fromkeys(("softmax", "log_softmax"), normalisations.softmax),
    "size": sizes.shape_of,
    "dim": lambda flow, node: None,
}
"""Tensor methods to rules."""

NAMED_RULES: dict[str, Rule] = {
    "torchvision.ops.stochastic_depth.stochastic_depth": elementwise,
    "torchvision.models.swin_transformer.shifted_window_attention": attention.shifted_window_attention,
    "torchvision.models.swin_transformer._patch_merging_pad": attention.patch_merging,
}
"""Qualified names of functions of other packages to rules. These packages need not be imported."""


def register(target: type[nn.Module] | Callable[..., Any] | str, rule: Rule) -> None:
    """Add the rule of an operator, or replace its existing rule.

    Parameters
    ----------
    target
        One of four kinds of operators. A module class: the rule does not apply to subclasses. torch.fx must treat the
        class as a leaf module, as it does for classes of torch.nn. A function that is marked with `torch.fx.wrap` or
        belongs to torch. An autograd function. The name of a tensor method.
    rule
        The rule; see `upscale_opt.operators`.

    Raises
    ------
    ModelError
        If the target is of another kind.
    """
    if isinstance(target, str):
        METHOD_RULES[target] = rule
    elif isinstance(target, type) and issubclass(target, nn.Module):
        MODULE_RULES[target] = rule
    elif callable(target):
        FUNCTION_RULES[target] = rule
    else:
        raise ModelError(f"{target!r} is no module class, function or method name; register one of these")


def rule_of(flow: Flow, node: fx.Node) -> Rule | None:
    """Return the rule of a node's operator, or None if it has no rule."""
    if node.op == "call_module":
        module = flow.module(node)
        if isinstance(module, CustomFunction):
            return FUNCTION_RULES.get(module.function)
        return MODULE_RULES.get(type(module))
    if node.op == "call_method":
        return METHOD_RULES.get(str(node.target))
    function: Any = node.target
    if function in FUNCTION_RULES:
        return FUNCTION_RULES[function]
    return NAMED_RULES.get(f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}")
