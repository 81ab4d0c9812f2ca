"""The table from operators to rules. One new entry adds an operator, in all its spellings."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.custom_functions import CustomFunction
from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.errors import ModelError
from upscale_opt.modules.matrix_convolution import MatrixConv2d
from upscale_opt.modules.selections import Gather
from upscale_opt.operators import (
    attention,
    normalisations,
    products,
    recurrent,
    repetitions,
    selections,
    shapes,
    sizes,
    weights,
)
from upscale_opt.operators.elementwise import (
    deviation,
    elementwise,
    extremum,
    norm,
    pad,
    pooling,
    reduction,
    resampling,
    resize,
    same,
    unpooling,
)
from upscale_opt.operators.spellings import aten_name, functions_of, methods_of

Rule = Callable[[Flow, fx.Node], Value]

CONCATS = (torch.cat, torch.concat, torch.concatenate)
"""Functions that join tensors along one axis."""
_POOLING_MODULES = {
    1: (nn.MaxPool1d, nn.AvgPool1d, nn.LPPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d),
    2: (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    3: (nn.MaxPool3d, nn.AvgPool3d, nn.LPPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d),
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
_ELEMENTWISE = (
    *("abs", "acos", "acosh", "add", "addcdiv", "addcmul", "alpha_dropout", "angle", "asin", "asinh", "atan", "atan2"),
    *("atanh", "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor"),
    *("ceil", "celu", "clamp", "clamp_max", "clamp_min", "copy_", "copysign", "cos", "cosh", "deg2rad", "digamma"),
    *("div", "dropout", "dropout1d", "dropout2d", "dropout3d", "elu", "eq", "erf", "erfc", "erfinv", "exp", "exp2"),
    *("expm1", "feature_alpha_dropout", "feature_dropout", "fill", "float_power", "floor", "floor_divide", "fmax"),
    *("fmin", "fmod", "frac", "full_like", "ge", "gelu", "gt", "hardshrink", "hardsigmoid", "hardswish", "hardtanh"),
    *("heaviside", "hypot", "i0", "isfinite", "isinf", "isnan", "ldexp", "le", "leaky_relu", "lerp", "lgamma", "log"),
    *("log10", "log1p", "log2", "log_sigmoid", "logaddexp", "logaddexp2", "logical_and", "logical_not", "logical_or"),
    *("logical_xor", "logit", "logsigmoid", "lt", "masked_fill", "maximum", "minimum", "mish", "mul", "nan_to_num"),
    *("native_dropout", "ne", "neg", "nextafter", "ones_like", "positive", "pow", "rad2deg", "reciprocal", "relu"),
    *("relu6", "remainder", "round", "rrelu", "rsqrt", "rsub", "selu", "sgn", "sigmoid", "sign", "signbit", "silu"),
    *("sin", "sinc", "sinh", "softplus", "softshrink", "softsign", "sqrt", "square", "sub", "tan", "tanh"),
    *("tanhshrink", "threshold", "trunc", "where", "xlogy", "zero", "zeros_like"),
)
_SAME = (
    *("contiguous", "clone", "detach", "to", "type", "type_as", "cpu", "cuda", "requires_grad", "alias", "_to_copy"),
    *("float", "double", "half", "bfloat16", "bool", "byte", "char", "short", "int", "long", "lift_fresh_copy"),
)
_PADDINGS = ("ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad", "CircularPad")

MODULE_RULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d, MatrixConv2d), weights.convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), weights.convolution),
    nn.Linear: weights.linear,
    nn.Embedding: weights.embedding,
    nn.EmbeddingBag: weights.embedding,
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
    **dict.fromkeys((nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d), unpooling),
    nn.Unfold: shapes.unfold,
    nn.GLU: selections.gated,
    nn.Flatten: shapes.flatten,
    nn.ChannelShuffle: shapes.channel_shuffle,
    nn.PixelShuffle: shapes.pixel_shuffle,
    nn.PixelUnshuffle: shapes.pixel_unshuffle,
    Gather: shapes.gather,
    nn.MultiheadAttention: attention.multi_head_attention,
    **dict.fromkeys(recurrent.LAYERS, recurrent.recurrent),
    **dict.fromkeys(recurrent.CELLS, recurrent.cell),
}
"""Module classes to rules. A subclass does not use its parent's rule, because it may do anything."""

_OPERATORS: dict[str, Rule] = {
    **dict.fromkeys((f"conv{d}d" for d in (1, 2, 3)), weights.functional_convolution),
    **dict.fromkeys((f"conv_transpose{d}d" for d in (1, 2, 3)), weights.functional_convolution),
    "linear": weights.functional_linear,
    "embedding": weights.functional_embedding,
    **dict.fromkeys(("mm", "matmul"), products.matrix_product),
    **dict.fromkeys(("bmm", "einsum"), products.product),
    "scaled_dot_product_attention": products.grouped_attention,
    "batch_norm": normalisations.functional_batch_norm,
    "layer_norm": normalisations.functional_layer_norm,
    "rms_norm": normalisations.functional_rms_norm,
    "group_norm": normalisations.functional_group_norm,
    "local_response_norm": normalisations.local_response_norm,
    "prelu": normalisations.prelu,
    "normalize": normalisations.normalize,
    **dict.fromkeys(("softmax", "log_softmax", "softmin"), normalisations.softmax),
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_SAME, same),
    **{f"{kind}_pool{d}d": pooling(d) for d in (1, 2, 3) for kind in ("max", "avg", "lp")},
    **{f"adaptive_{kind}_pool{d}d": pooling(d) for d in (1, 2, 3) for kind in ("max", "avg")},
    **{f"max_pool{d}d_with_indices": pooling(d) for d in (1, 2, 3)},
    **{f"max_unpool{d}d": unpooling for d in (1, 2, 3)},
    "grid_sample": resampling,
    "unfold": shapes.unfold,
    **dict.fromkeys(("interpolate", "upsample"), resize),
    "pad": pad,
    "cat": selections.concat,
    "hstack": selections.horizontal_stack,
    "stack": selections.stack,
    **dict.fromkeys(("chunk", "split", "tensor_split"), selections.split),
    "unbind": selections.unbind,
    "glu": selections.gated,
    "narrow": selections.narrow,
    "select": selections.select,
    "roll": selections.roll,
    "flip": selections.along_others,
    **dict.fromkeys(("cumsum", "cumprod", "logcumsumexp", "sort", "topk", "argsort"), selections.along_other),
    **dict.fromkeys(("cummax", "cummin"), selections.along_other),
    "index_select": selections.along_other,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "prod", "logsumexp", "nanmean", "nansum", "all", "any"), reduction),
    "norm": norm,
    **dict.fromkeys(("var", "std"), deviation),
    **dict.fromkeys(("max", "min"), extremum),
    "flatten": shapes.flatten,
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    **dict.fromkeys(("view", "reshape"), shapes.reshape),
    **dict.fromkeys(("view_as", "reshape_as"), shapes.reshape_as),
    "unflatten": shapes.unflatten,
    "permute": shapes.permute,
    "movedim": shapes.move_dimensions,
    "transpose": shapes.transpose,
    "t": shapes.transpose_matrix,
    "expand": repetitions.expand,
    "expand_as": repetitions.expand_as,
    "repeat": repetitions.repeat,
    "repeat_interleave": repetitions.repeat_interleave,
    "pixel_shuffle": shapes.pixel_shuffle,
    "pixel_unshuffle": shapes.pixel_unshuffle,
    "channel_shuffle": shapes.channel_shuffle,
}
"""Operators to rules. All spellings are derived (`upscale_opt.operators.spellings`)."""
_MAY_BE_IN_PLACE = (elementwise, same)
"""Rules of operators that keep the shape, so that a tensor changed in place keeps its layout."""

FUNCTION_RULES: dict[Callable[..., Any], Rule] = {
    **{
        function: rule
        for name, rule in _OPERATORS.items()
        for function in functions_of(name, in_place=rule in _MAY_BE_IN_PLACE)
    },
    **dict.fromkeys((torch.linalg.vector_norm, torch.linalg.norm), norm),
    nn.utils.rnn.pack_padded_sequence: recurrent.pack,
    nn.utils.rnn.pad_packed_sequence: recurrent.unpack,
    operator.getitem: selections.get_item,
    getattr: sizes.get_attribute,
    torch.numel: sizes.number_of_entries,
    torch.embedding: weights.plain_embedding,
}
"""Functions to rules."""

METHOD_RULES: dict[str, Rule] = {
    **{
        method: rule
        for name, rule in _OPERATORS.items()
        for method in methods_of(name, in_place=rule in _MAY_BE_IN_PLACE)
    },
    "size": sizes.shape_of,
    **dict.fromkeys(("numel", "nelement"), sizes.number_of_entries),
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
    aten = aten_name(function)
    if aten is not None:
        return METHOD_RULES.get(aten) or _OPERATORS.get(aten)
    return NAMED_RULES.get(f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}")
