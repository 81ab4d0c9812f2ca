"""The BatchNorm scales that channels come from, by node. Network slimming ranks channels by these scales.

The scale of a channel is the absolute scale of the last BatchNorm before it. The scale passes through:

- operations that treat each channel alone and have no parameters (activations, pooling, flattening);
- slices, concatenations and selections of channels;
- an addition of two tensors, as in residual networks: the scales are summed, if both tensors have one;
- a product where only one factor has a scale, as in squeeze-and-excitation.

Every other operation ends it: a convolution (also a depthwise one) or another normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.capture.argument_names import arguments_of
from upscale_opt.capture.shared_memory import kind_of
from upscale_opt.models.attributes import attribute_of
from upscale_opt.operators.table import CONCATS
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.writes import ADDITIONS, PRODUCTS, SUBTRACTIONS


def scales_of(graph: Graph) -> dict[str, np.ndarray]:
    """Absolute BatchNorm scales of the channels of every tensor.

    Parameters
    ----------
    graph
        The traced model.

    Returns
    -------
    dict
        Node name to float64 of shape (channels of its layout,), NaN for channels without a scale. Nodes where no
        channel has a scale are not listed. A BatchNorm without affine parameters has scale 1.
    """
    rearranged: dict[str, Callable[[Mapping[str, np.ndarray]], np.ndarray | None]] = {}
    for part in graph.slices:
        rearranged[part.node] = lambda found, part=part: _sliced(graph, part, found)  # type: ignore[misc]
    for selection in graph.selections:
        rearranged[selection.node] = lambda found, own=selection: (  # type: ignore[misc]
            found[own.source][own.index] if own.source in found and own.input.size == 1 else None
        )
    found: dict[str, np.ndarray] = {}
    for node in graph.module.graph.nodes:
        if node.name in graph.layouts:
            rule = rearranged.get(node.name)
            scale = rule(found) if rule is not None else _scale(graph, node, found)
            if scale is not None and not np.isnan(scale).all():
                found[node.name] = scale
    return found


def _scale(graph: Graph, node: fx.Node, found: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The scales of one node's channels, or None."""
    kind, blocks = kind_of(node), graph.layouts[node.name].blocks
    if kind in CONCATS:
        return _joined(graph, node, found)
    normalised, gamma = _own_gamma(graph, node)
    if normalised:
        width = sum(graph.blocks[b].size for b in blocks)
        return np.ones(width) if gamma is None else _magnitudes(gamma).reshape(width, -1).mean(1)
    if _has_parameters(graph, node):
        return None
    operands = [x.name for x in node.all_input_nodes if x.name in graph.layouts]
    if any(graph.layouts[name].blocks != blocks for name in operands):
        return None
    known = [found[name] for name in operands if name in found]
    if len(operands) == 1:
        return known[0] if known else None
    if kind in (*ADDITIONS, *SUBTRACTIONS) and len(known) == len(operands) == 2:
        return known[0] + known[1]
    return known[0] if kind in PRODUCTS and len(known) == 1 else None


def _joined(graph: Graph, node: fx.Node, found: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The scales of a concatenation of channels."""
    parts = [getattr(x, "name", "") for x in node.args[0]]  # type: ignore[union-attr]
    layouts = [graph.layouts.get(name) for name in parts]
    along = sum((own.blocks for own in layouts if own is not None), ())
    if None in layouts or along != graph.layouts[node.name].blocks:
        return None
    widths = [sum(graph.blocks[b].size for b in own.blocks) for own in layouts if own is not None]
    return np.concatenate([found.get(name, np.full(width, np.nan)) for name, width in zip(parts, widths, strict=True)])


def _sliced(graph: Graph, part: Any, found: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The scales of a slice of a tensor's channels."""
    if part.source not in found:
        return None
    entries = found[part.source].repeat(graph.layouts[part.source].size)[part.start : part.stop]
    return entries.reshape(-1, graph.layouts[part.node].size)[:, 0]


def _own_gamma(graph: Graph, node: fx.Node) -> tuple[bool, torch.Tensor | None]:
    """Whether a node is a BatchNorm, and its scale. The scale is None if the BatchNorm has no affine parameters."""
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        own = isinstance(module, nn.modules.batchnorm._BatchNorm)
        return own, module.weight if own else None  # type: ignore[return-value]
    if kind_of(node) not in (functional.batch_norm, torch.batch_norm):
        return False, None
    gamma = (arguments_of(node) or {}).get("weight")
    if gamma is None:
        return True, None
    known = isinstance(gamma, fx.Node) and gamma.op == "get_attr"
    return known, attribute_of(graph.module, str(gamma.target)) if known else None


def _has_parameters(graph: Graph, node: fx.Node) -> bool:
    """Whether a node may have one parameter per channel."""
    if node.op == "call_module":
        module = graph.module.get_submodule(str(node.target))
        return not isinstance(module, nn.PReLU) and next(module.parameters(), None) is not None
    return any(x.op == "get_attr" for x in node.all_input_nodes)


def _magnitudes(gamma: torch.Tensor) -> np.ndarray:
    return gamma.detach().double().abs().cpu().numpy()
