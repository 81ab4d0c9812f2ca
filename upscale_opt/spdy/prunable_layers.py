"""The layers whose sparsity is chosen, and how many input channels each level of a grid keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from problems import TimingTable
from upscale_opt.arguments.amounts import num_removed
from upscale_opt.errors import MaskError
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.planning.layer_shapes import Layer
from upscale_opt.planning.workloads import layer_of
from upscale_opt.tracing.consumer_names import consumers_matching
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph, Read


@dataclass(frozen=True)
class PrunableLayer:
    """A consumer that may drop input channels.

    Attributes
    ----------
    name
        The path of its module. Timing tables and profiles use this name.
    weight
        The name of its weight. Masks use this name.
    channels
        Number of input channels.
    shape
        The shape of one call of the dense layer.
    """

    name: str
    weight: str
    channels: int
    shape: Layer

    @property
    def positions(self) -> int:
        """Entries of its input per channel, with the batch."""
        return math.prod(self.shape.input_shape) // self.channels

    def kept(self, sparsity: float) -> int:
        """Number of channels that a level keeps: all but `upscale_opt.arguments.amounts.num_removed`."""
        return self.channels - num_removed(sparsity, self.channels)

    def counts(self, sparsities: Sequence[float]) -> tuple[int, ...]:
        """Number of channels that each of several levels keeps."""
        return tuple(self.kept(sparsity) for sparsity in sparsities)


def prunable_layers(graph: Graph, *, linear: bool = False, ignore: Iterable[str] = ()) -> tuple[PrunableLayer, ...]:
    """The convolutions whose sparsity can be chosen, in execution order.

    These are `torch.nn.Conv2d` modules with one group and zero padding that do not read the network input. Other layers
    stay dense.

    Parameters
    ----------
    graph
        The traced model.
    linear
        Also include linear layers, unless they read a flattened image. Default no.
    ignore
        Names of weights or modules that stay dense, wildcards allowed (``layer4.*``).

    Raises
    ------
    MaskError
        If a layer is called twice or shares its weight (its inputs cannot be told apart). Also if a name to ignore
        matches nothing, or no layer is left.
    ModelError
        If a weight is NaN or infinite.
    """
    require_finite(graph)
    ignored = consumers_matching(graph, ignore)
    dense = MaskedGraph(graph, {})
    layers = []
    for weight, read in graph.consumers.items():
        if weight in ignored or read.takes_all or read.reads_network_input:
            continue
        shape = _shape_of(dense, read, linear)
        if shape is None:
            continue
        name = weight.removesuffix(".weight")
        if graph.calls[name] > 1 or not graph.is_private(name):
            raise MaskError(
                f"layer {name!r} is called twice or shares its weight, so that it has no inputs of its own to be "
                f"reconstructed on; keep it dense: ignore {name}"
            )
        layers.append(PrunableLayer(name, weight, shape.input_shape[shape.axis], shape))
    if not layers:
        raise MaskError("no layer is left to choose a sparsity for; ignore fewer, or take linear layers, too")
    return tuple(layers)


def listed_layers(layers: Sequence[PrunableLayer], table: TimingTable, model: nn.Module) -> tuple[PrunableLayer, ...]:
    """The layers that a timing table lists. Other entries of the table stay dense.

    Raises
    ------
    MaskError
        If the table lists a name that is not a module of the network, or if it lists none of these layers.
    """
    modules = {name for name, _ in model.named_modules()}
    for own in table.layers:
        if own.name not in modules:
            raise MaskError(f"the timing table lists {own.name!r}, which the network does not have; give its own table")
    listed = {own.name for own in table.layers}
    found = tuple(layer for layer in layers if layer.name in listed)
    if not found:
        raise MaskError("the timing table lists none of the layers that can be pruned; measure the network itself")
    return found


def levels_of(layers: Sequence[PrunableLayer], table: TimingTable) -> Mapping[str, tuple[float, ...]]:
    """Layer name to the sparsities of its levels in a timing table."""
    listed = {own.name: own.sparsities for own in table.layers}
    return {layer.name: listed[layer.name] for layer in layers}


def _shape_of(dense: MaskedGraph, read: Read, linear: bool) -> Layer | None:
    """The shape of a call. None if the layer is not of a wanted kind."""
    shape = layer_of(dense, read, _outputs(dense.graph, read), {})
    if shape is None or shape.channel_size != 1:
        return None
    return shape if shape.kind == "Conv2d" or (linear and shape.kind == nn.Linear.__name__) else None


def _outputs(graph: Graph, read: Read) -> int:
    """Number of output channels of a consumer."""
    weight = graph.module.get_parameter(read.weight)
    return int(weight.shape[1 - read.input_axis])
