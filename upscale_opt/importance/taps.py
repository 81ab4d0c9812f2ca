"""Runs of a traced model that look at tensors on their way, and gates, whose gradients are value times gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx

from upscale_opt.errors import MaskError
from upscale_opt.importance.evidence import Point
from upscale_opt.tracing.graphs import Graph

Tap = Callable[[Point, torch.Tensor], torch.Tensor]
"""Takes a point and the tensor there, and returns the tensor that goes on."""


class Tapped(fx.Interpreter):
    """Runs a traced model. At some points, a tensor passes through a tap.

    If a point lies in front of a node, only this node gets the tap's result. If it lies behind a node (its source is
    the node), all users get the result.

    Parameters
    ----------
    graph
        The traced model.
    points
        Where the tensors are.
    tap
        See `Tap`.
    """

    def __init__(self, graph: Graph, points: Iterable[Point], tap: Tap) -> None:
        super().__init__(graph.module)
        self._tap = tap
        self._before: dict[str, dict[str, Point]] = {}
        self._behind: dict[str, list[Point]] = {}
        for point in points:
            if point.source == point.node:
                self._behind.setdefault(point.node, []).append(point)
            else:
                self._before.setdefault(point.node, {})[point.source] = point

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and pass its result through the taps behind it."""
        result = super().run_node(n)
        for point in self._behind.get(n.name, ()):
            result = self._tap(point, result)
        return result

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        """The values of a node's arguments, passed through the taps in front of the node."""
        points = self._before.get(n.name)
        if points is None:
            return super().map_nodes_to_values(args, n)

        def load(node: fx.Node) -> Any:
            point = points.get(node.name)
            return self.env[node] if point is None else self._tap(point, self.env[node])

        return fx.map_arg(args, load)


class Gates:
    """Multiplies tensors by gates of one, a gate for every channel of every image.

    The gradient of a loss by a gate is the sum over positions of value times gradient. It is the first-order change of
    the loss if a mask multiplies this channel of this image.
    """

    def __init__(self, graph: Graph) -> None:
        nodes = {node.name: node for node in graph.module.graph.nodes}
        self._is_changed = functools.cache(
            lambda point: graph.memory.is_overwritten_after(nodes[point.source], nodes[point.node])
        )
        self._images = 1
        self._made: list[tuple[Point, torch.Tensor]] = []

    def clear(self, images: int) -> None:
        """Forget the gates. A batch of this many images comes."""
        self._images = images
        self._made = []

    def __call__(self, point: Point, tensor: torch.Tensor) -> torch.Tensor:
        """Multiply a tensor by a new gate."""
        axis = point.layout.axis % tensor.ndim
        require_apart(point, tensor, self._images)
        shape = [1] * tensor.ndim
        shape[0], shape[axis] = self._images, tensor.shape[axis]
        gate = tensor.new_ones(shape, requires_grad=True)
        self._made.append((point, gate))
        # A later change in place would spoil the gradient, which needs the value.
        return (tensor.clone() if self._is_changed(point) else tensor) * gate

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All gates of the run."""
        return [gate for _, gate in self._made]

    def products(self, gradients: Iterable[torch.Tensor | None]) -> list[tuple[Point, torch.Tensor]]:
        """The gradients of the gates by point, float64 of shape (images, entries of the layout). No gradient is zero.

        Parameters
        ----------
        gradients
            Of the mean loss of the batch.
        """
        found = []
        for (point, gate), gradient in zip(self._made, gradients, strict=True):
            own = torch.zeros_like(gate) if gradient is None else gradient
            found.append((point, own.detach().double().reshape(self._images, -1) * self._images))
        return found


def require_apart(point: Point, tensor: torch.Tensor, images: int) -> None:
    """Raise an error if the first axis of a tensor is not that of the images. One image needs no axis."""
    if images > 1 and (tensor.shape[0] != images or point.layout.axis % tensor.ndim == 0):
        raise MaskError(
            f"the first axis of {point.source} is not that of the images, so images cannot be told apart; "
            "give batches of one image"
        )


def come_apart(graph: Graph, points: Iterable[Point]) -> bool:
    """Whether the first axis of all these tensors is that of the images, for the example inputs of the trace.

    Otherwise, as with windows of images or with sequences in front, images must run one by one.
    """
    first = next(node for node in graph.module.graph.nodes if node.op == "placeholder")
    example = graph.shapes.get(first.name)
    for point in points:
        shape = graph.shapes.get(point.source)
        if not example or not shape or shape[0] != example[0] or point.layout.axis % len(shape) == 0:
            return False
    return True
