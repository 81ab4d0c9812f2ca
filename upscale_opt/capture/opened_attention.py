"""Opens modules of torch in a trace. `torch.nn.MultiheadAttention` becomes the products that it stands for.

The operators use the module's own parameters, by their names. Arguments that this module does not know leave the module
closed: it is one operator of the trace, as modules of torch are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.capture.hooks import has_backward_hooks, has_foreign_hooks

COMPOSED = (
    *(nn.TransformerEncoderLayer, nn.TransformerDecoderLayer, nn.TransformerEncoder, nn.TransformerDecoder),
    *(nn.Transformer, nn.Softmax2d, nn.Unflatten, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
)
"""Modules of torch.nn that are traced into: they are made of other layers, or of one function that has a rule."""


class ClosedError(Exception):
    """A call of a module that is not opened."""


def may_be_opened(module: nn.Module) -> bool:
    """Whether a module is a plain `torch.nn.MultiheadAttention`, without hooks and computed weights."""
    if type(module) is not nn.MultiheadAttention or module.bias_k is not None or module.add_zero_attn:
        return False
    parts = (module, module.out_proj)
    hooked = any(has_foreign_hooks(own) or has_backward_hooks(own) for own in parts)
    return not hooked and not any(nn.utils.parametrize.is_parametrized(own) for own in parts)


def attention(
    module: Any,
    example_of: Callable[[Any], Any],
    spare: list[fx.Node],
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Compute what a `torch.nn.MultiheadAttention` computes, by single operators.

    Parameters
    ----------
    module
        The module. Its parameters are proxies while a trace runs.
    example_of
        Returns a tensor of the same shape and dtype as a proxy's.
    spare
        Nodes that may turn out to have no user. They are added to this list.
    query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        The arguments of the module.

    Raises
    ------
    ClosedError
        If the arguments are not supported.
    """
    if not all(isinstance(own, fx.Proxy) and example_of(own).ndim == 3 for own in (query, key, value)):
        raise ClosedError
    parts = _projected(module, query, key, value)
    q, k, v = (_heads(own, source, module) for own, source in zip(parts, (query, key, value), strict=True))
    mask, is_boolean = _mask(example_of, key_padding_mask, attn_mask)
    if need_weights:
        scores = q * module.head_dim**-0.5 @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf")) if is_boolean else scores + mask
        weights = functional.softmax(scores, dim=-1)
        if module.dropout:
            weights = functional.dropout(weights, module.dropout, module.training)
        y = weights @ v
        if average_attn_weights:
            mean: Any = weights.mean(1)
            spare.append(mean.node)
            weights = mean
    else:
        share = module.dropout if module.training else 0.0
        mask = ~mask if is_boolean else mask
        y, weights = functional.scaled_dot_product_attention(q, k, v, mask, share), None
    n, length = query.shape[0], query.shape[1]
    y = (y.transpose(1, 2) if module.batch_first else y.permute(2, 0, 1, 3)).reshape(n, length, -1)
    return functional.linear(y, module.out_proj.weight, module.out_proj.bias), weights


def _projected(module: Any, query: Any, key: Any, value: Any) -> list[Any]:
    """Queries, keys and values, before they are split into heads."""
    if module._qkv_same_embed_dim:
        if not (query.node is key.node is value.node):
            raise ClosedError  # parts of one weight have no names of their own
        joined = functional.linear(query, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
        return [joined[i] for i in range(3)]
    weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    biases: list[Any] = [None] * 3
    if module.in_proj_bias is not None:
        joined = module.in_proj_bias.chunk(3)
        biases = [joined[i] for i in range(3)]
    return [functional.linear(*own) for own in zip((query, key, value), weights, biases, strict=True)]


def _heads(x: Any, source: Any, module: Any) -> Any:
    """Put the heads on axis 1, behind the batch."""
    split = x.reshape(source.shape[0], source.shape[1], module.num_heads, module.head_dim)
    return split.transpose(1, 2) if module.batch_first else split.permute(1, 2, 0, 3)


def _mask(example_of: Callable[[Any], Any], padding: Any, mask: Any) -> tuple[Any, bool]:
    """Both masks as one, or None, and whether it is Boolean (True = masked) instead of added to the scores."""
    found, is_boolean = [], set()
    for own, by_sample in ((padding, True), (mask, False)):
        if own is None:
            continue
        example = own if isinstance(own, torch.Tensor) else example_of(own)
        if example.ndim != 2:
            raise ClosedError
        is_boolean.add(example.dtype == torch.bool)
        found.append(own[:, None, None, :] if by_sample else own)
    if len(is_boolean) > 1:
        raise ClosedError
    if not found:
        return None, False
    boolean = is_boolean.pop()
    if len(found) == 1:
        return found[0], boolean
    return found[0] | found[1] if boolean else found[0] + found[1], boolean
