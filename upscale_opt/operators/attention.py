"""Rules of attention. The channels of inputs and outputs may move; the channels inside keep their positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from upscale_opt.channels.findings import Value
from upscale_opt.channels.flow import Flow
from upscale_opt.channels.table import Layout


def multi_head_attention(flow: Flow, node: fx.Node) -> Value:
    """``nn.MultiheadAttention`` needs all channels of its inputs, in any order, and computes new channels."""
    module = flow.module(node)
    inputs = [flow.argument(node, name) for name in ("query", "key", "value")]
    if not all(flow.is_tensor(x) for x in inputs) or module.bias_k is not None:
        return flow.unknown(node)
    masks = [x for x in node.all_input_nodes if x not in inputs]
    if any(flow.value(x) is not None for x in masks):
        return flow.unknown(node)
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = ["in_proj_weight"] * 3 if module.in_proj_weight is not None else list(names)
    for x, weight in zip(inputs, weights, strict=True):
        channels = flow.channels(node, x, len(flow.shape(x)) - 1)
        if channels is None or len(channels) != getattr(module, weight).shape[1]:
            return flow.unknown(node)
        flow.table.need(channels)
        flow.follow(f"{node.target}.{weight}", 1, channels)
    output = flow.follow(f"{node.target}.out_proj.weight", 0, None)
    flow.table.need(output)
    if module.out_proj.bias is not None:
        flow.follow(f"{node.target}.out_proj.bias", 0, output)
    return (Layout(len(flow.shape(inputs[0])) - 1, output), None)


def shifted_window_attention(flow: Flow, node: fx.Node) -> Value:
    """torchvision's ``shifted_window_attention`` (Swin), a function that gets its weights as arguments."""
    names = ("input", "qkv_weight", "proj_weight")
    source, qkv, projection = (flow.argument(node, name) for name in names)
    bias = flow.argument(node, "proj_bias")
    if not flow.is_tensor(source) or not all(_is_attribute(x) for x in (qkv, projection)):
        return flow.unknown(node)
    if bias is not None and not _is_attribute(bias):
        return flow.unknown(node)
    others = [x for x in node.all_input_nodes if x not in (source, qkv, projection, bias)]
    if any(flow.value(x) is not None for x in others):
        return flow.unknown(node)
    axis = len(flow.shape(source)) - 1
    channels = flow.channels(node, source, axis)
    if channels is None:
        return flow.unknown(node)
    flow.table.need(channels)
    _use(flow, node, qkv, 1, channels)
    output = _use(flow, node, projection, 0, None)
    flow.table.need(output)
    if bias is not None:
        _use(flow, node, bias, 0, output)
    return Layout(axis, output)


def patch_merging(flow: Flow, node: fx.Node) -> Value:
    """torchvision's ``_patch_merging_pad`` (Swin) concatenates the channels of four neighbouring pixels."""
    source = flow.source(node)
    x = flow.layout(source)
    if x is None:
        return flow.unknown(node) if flow.value(source) is not None else flow.opaque(node)
    if x.axis != len(flow.shape(source)) - 1 or flow.shape(node)[-1] != 4 * len(x.channels):
        return flow.unknown(node)
    return Layout(len(flow.shape(node)) - 1, np.tile(x.channels, 4))


def _use(flow: Flow, node: fx.Node, attribute: Any, dimension: int, channels: np.ndarray | None) -> np.ndarray:
    flow.attribute_uses.add((node.name, attribute.name))
    return flow.follow(str(attribute.target), dimension, channels)


def _is_attribute(node: Any) -> bool:
    return isinstance(node, fx.Node) and node.op == "get_attr"
