"""One pass over calibration data that collects statistics of features and gradients of the loss, for all layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.arguments.checks import parts_of
from upscale_opt.arguments.modes import INPUT
from upscale_opt.capture.regions import unwound
from upscale_opt.errors import MaskError, first_line
from upscale_opt.importance.evidence import Evidence, Point, points_of
from upscale_opt.importance.registry import Importance, Statistic
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.running import device_of
from upscale_opt.tracing.graphs import Graph

Loss = Callable[[Any, Any], torch.Tensor]


def collect(
    graph: Graph,
    importance: Importance,
    weights: Iterable[str],
    *,
    side: str = INPUT,
    data: Any = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> Evidence:
    """Collect the evidence that an importance needs, in one pass over the data. The model is unchanged afterwards.

    Parameters
    ----------
    graph
        The traced model. It runs in eval mode. Its modes, gradients and statistics do not change.
    importance
        Says which evidence is needed. If it needs no data, the data is not read.
    weights
        Names of the weights to score.
    side
        ``input`` or ``output``.
    data
        Batches, as an iterable. A batch is a tensor, a tuple of the network's inputs, or such a tuple with labels at
        the end (a DataLoader of images and labels). A single tensor is one batch of inputs.
    loss
        ``loss(outputs, labels)``, a mean over the images of a batch. The labels are None if the data has none.
        Default: cross-entropy, which needs labels.
    seed
        Seed for random scores.

    Raises
    ------
    MaskError
        If the importance needs data or labels and they are missing, or if they do not fit the network.
    """
    if not importance.needs_data:
        return Evidence(graph, side, seed)
    if data is None:
        raise MaskError(f"the importance {importance.name} needs data; give data=, batches of inputs")
    names = list(weights)
    tensors = [attribute_of(graph.module, name) for name in names] if importance.needs_gradients else []
    watch = _Watch(graph, names, side, importance.statistic)
    images = 0
    with _evaluated(graph.module, tensors):
        sums = [torch.zeros_like(tensor, dtype=torch.float64) for tensor in tensors]
        for inputs, labels in _batches(graph, data):
            if importance.needs_labels and loss is None and labels is None:
                raise MaskError(f"the importance {importance.name} needs labels; give batches of (inputs, labels)")
            try:
                with unwound():
                    outputs, size = watch.run(*inputs), len(inputs[0])
                value = (loss or functional.cross_entropy)(outputs, labels) if tensors else outputs
                found = torch.autograd.grad(value, tensors, allow_unused=True) if tensors else ()
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise MaskError(
                    f"the model or the loss rejects a batch of the data ({first_line(error)}); give batches of the "
                    "network's inputs, with labels behind them if the importance needs some"
                ) from error
            images += size
            for total, gradient in zip(sums, found, strict=True):
                if gradient is not None:
                    total += gradient.double() * size
    if not images:
        raise MaskError("the data has no images; give at least one batch")
    gradients = {name: total / images for name, total in zip(names, sums, strict=False)}
    return Evidence(graph, side, seed, watch.means(images), gradients)


class _Watch(fx.Interpreter):
    """Runs a traced model and sums a statistic of the tensors that its layers read or write."""

    def __init__(self, graph: Graph, weights: list[str], side: str, statistic: Statistic | None) -> None:
        super().__init__(graph.module)
        self._graph = graph
        self._statistic = statistic
        self._points: dict[str, list[Point]] = {}
        self._calls: dict[str, int] = {}
        self._sums: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, int], np.ndarray] = {}
        for weight in weights if statistic is not None else ():
            points = points_of(graph, weight, side)
            self._calls[weight] = len(points)
            for point in points:
                self._points.setdefault(point.node, []).append(point)

    def run_node(self, n: fx.Node) -> Any:
        """Run a node. Tensors that it reads are observed before it runs: a later node may change them in place."""
        points = self._points.get(n.name, ())
        for point in points:
            if point.source != n.name:
                self._look(point, next(self.env[x] for x in n.all_input_nodes if x.name == point.source))
        result = super().run_node(n)
        for point in points:
            if point.source == n.name:
                self._look(point, result)
        return result

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network on one batch."""
        self._known.clear()
        return super().run(*args, **kwargs)

    def means(self, images: int) -> dict[str, np.ndarray]:
        """Weight name to the mean over images and calls."""
        return {weight: total / (images * self._calls[weight]) for weight, total in self._sums.items()}

    def _look(self, point: Point, tensor: torch.Tensor) -> None:
        key = (point.source, tensor._version)  # measure a tensor once, even if several layers read it
        if key not in self._known:
            assert self._statistic is not None
            axis = point.layout.axis % tensor.ndim
            maps = tensor.detach()[None] if axis == 0 else tensor.detach().movedim(axis, 1)
            maps = maps if maps.dtype == torch.float64 else maps.float()
            with torch.no_grad():
                self._known[key] = self._statistic(maps).double().sum(0).cpu().numpy()
        own = self._known[key].reshape(point.groups, -1).sum(axis=0)
        self._sums[point.weight] = self._sums.get(point.weight, 0.0) + own


def _batches(graph: Graph, data: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The batches as pairs of inputs and labels, on the model's device. Labels are None if the data has none."""
    number = sum(node.op == "placeholder" and not node.args for node in graph.module.graph.nodes)
    device = device_of(graph.module)
    for batch in [data] if isinstance(data, torch.Tensor) else data:
        parts = parts_of(batch)
        if len(parts) not in (number, number + 1) or not all(isinstance(part, torch.Tensor) for part in parts[:number]):
            raise MaskError(
                f"a batch of the data has {len(parts)} parts; the network takes {number} tensors, and labels may follow"
            )
        moved = tuple(_usable(part, device) if isinstance(part, torch.Tensor) else part for part in parts)
        yield moved[:number], moved[number] if len(moved) > number else None


def _usable(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device. A copy if it is an inference-mode tensor, because gradients cannot pass such a tensor."""
    moved = tensor.to(device)
    return moved.clone() if moved.is_inference() else moved


@contextmanager
def _evaluated(module: nn.Module, tensors: list[torch.Tensor]) -> Iterator[None]:
    """Put a module in eval mode. With tensors, enable gradients for them and all parameters. Restore all at the end."""
    training = [own for own in module.modules() if own.training]
    changed = [own for own in (*module.parameters(), *tensors) if own.is_floating_point()] if tensors else []
    wanted = [(own, own.requires_grad) for own in changed]
    try:
        module.eval()
        for own in changed:  # all: an in-place change of a tensor may need a producer with gradients
            own.requires_grad_(True)
        with torch.inference_mode(False), torch.set_grad_enabled(bool(tensors)):
            yield
    finally:
        for own, value in wanted:
            own.requires_grad_(value)
        for part in training:
            part.training = True
