"""The input of importance scores: the weights, and the results of one pass over calibration data (`observation`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from upscale_opt.arguments.modes import INPUT
from upscale_opt.errors import MaskError
from upscale_opt.importance.norms import slices_of
from upscale_opt.importance.scales import scales_of
from upscale_opt.tracing.graphs import Graph, TensorLayout
from upscale_opt.tracing.writes import writes_of


@dataclass(frozen=True, eq=False)
class Evidence:
    """The data that the function of an importance may read.

    Attributes
    ----------
    graph
        The traced model.
    side
        ``input`` if the channels are those that consumers read, ``output`` if they are those that producers compute.
    seed
        Seed for random scores.
    statistics
        Weight name to the mean of the importance's statistic over the images and over the calls of the layer, float64
        of shape (channels,). On the input side, the statistic is of the tensor that enters the layer. On the output
        side, it is of the tensor that an output mask multiplies, after normalisation and activation
        (`upscale_opt.tracing.writes`). For a convolution with several groups, it is summed over the groups. Empty if
        the importance has no statistic.
    gradients
        Weight name to the gradient of the mean loss over the data, in the weight's shape. Empty if the importance needs
        no gradients.
    products
        Weight name to the mean over the images of the importance's statistic of *products*, float64 of shape
        (channels,). The product of a channel and an image is the sum over positions of the value times the gradient of
        the image's loss, of the same tensor as for `statistics`. It is summed over the calls of the layer, and over
        the groups of a convolution, because a mask holds for all of them. Empty if the importance has no statistic of
        products.
    """

    graph: Graph
    side: str = INPUT
    seed: int = 0
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict)
    products: Mapping[str, np.ndarray] = field(default_factory=dict)

    def slices(self, weight: str) -> torch.Tensor:
        """The slices of a weight, one row per channel; float64."""
        return slices_of(self.graph, weight, self.side)

    def gradient_slices(self, weight: str) -> torch.Tensor:
        """The slices of the weight's gradient, one row per channel; float64."""
        return slices_of(self.graph, weight, self.side, self.gradients[weight])

    def scales(self, weight: str) -> np.ndarray:
        """Absolute BatchNorm scales of a layer's channels, summed over its calls and groups; float64.

        Raises
        ------
        MaskError
            If a channel does not come from a BatchNorm.
        """
        total = 0.0
        for point in points_of(self.graph, weight, self.side):
            width = sum(self.graph.blocks[b].size for b in point.layout.blocks)
            scale = self._scales.get(point.source, np.full(width, np.nan)).repeat(point.layout.size)
            total = total + scale.reshape(point.groups, -1).sum(axis=0)
        if np.isnan(total).any():
            name, verb = weight.removesuffix(".weight"), "reads" if self.side == INPUT else "computes"
            raise MaskError(
                f"not every channel that {name} {verb} comes from a BatchNorm; "
                f"ignore {name} or choose another importance"
            )
        return np.asarray(total)

    @cached_property
    def _scales(self) -> dict[str, np.ndarray]:
        return scales_of(self.graph)


@dataclass(frozen=True)
class Point:
    """Where the channels of a layer are observed: a tensor, just before or just after a node runs."""

    weight: str
    node: str
    source: str
    layout: TensorLayout
    groups: int = 1


def points_of(graph: Graph, weight: str, side: str) -> list[Point]:
    """Where the channels of a layer are observed: once per call on the input side, once in all on the output side.

    Raises
    ------
    MaskError
        If the channels are inside a recurrent layer.
    """
    if side == INPUT:
        calls = [read for read in graph.outer_reads if read.weight == weight]
        if not calls:
            raise _not_observed(weight)
        return [Point(weight, read.node, read.source, read.input, read.groups) for read in calls]
    masked = writes_of(graph)[weight].masked
    return [Point(weight, masked, masked, graph.layouts[masked])]


def require_observed(graph: Graph, weights: Collection[str]) -> None:
    """Raise an error if any of these weights reads channels that are inside a recurrent layer."""
    for read in graph.grouped:
        if read.is_inside and read.weight in weights:
            raise _not_observed(read.weight)


def _not_observed(weight: str) -> MaskError:
    layer = weight.rpartition(".")[0]
    return MaskError(
        f"what {weight} reads is inside a recurrent layer, where data shows nothing; ignore {layer}.* or choose an "
        "importance of weights, such as l2"
    )
