"""One pass over calibration data that collects statistics of features and gradients of the loss, for all layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from upscale_opt.arguments.modes import INPUT
from upscale_opt.errors import MaskError
from upscale_opt.importance.calibration import Calibration, Loss, evaluated, looked_at
from upscale_opt.importance.evidence import Evidence, Point, points_of
from upscale_opt.importance.registry import Importance, Statistic
from upscale_opt.importance.taps import Gates, Tapped, come_apart
from upscale_opt.models.attributes import attribute_of
from upscale_opt.tracing.graphs import Graph


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
        Default: cross-entropy. It needs labels, unless the importance draws them from the network's softmax.
    seed
        Seed for random scores and for drawn labels.

    Raises
    ------
    MaskError
        If the importance needs data or labels and they are missing, or if they do not fit the network.
    """
    if not importance.needs_data:
        return Evidence(graph, side, seed)
    calibration = calibration_for(importance, data, loss=loss, seed=seed)
    names = list(weights)
    tensors = [attribute_of(graph.module, name) for name in names] if importance.needs_gradients else []
    observed = importance.statistic is not None or importance.product_statistic is not None
    points = [point for name in names for point in points_of(graph, name, side)] if observed else []
    watch, gates = _Watch(importance.statistic), Gates(graph)
    gated = points if importance.product_statistic is not None else []

    def tap(point: Point, tensor: torch.Tensor) -> torch.Tensor:
        if importance.statistic is not None:
            watch.look(point, tensor)
        return gates(point, tensor) if gated else tensor

    runner = Tapped(graph, points, tap)
    products: dict[str, np.ndarray] = {}
    images = 0
    with evaluated(graph.module, tensors, gradients=bool(gated)):
        sums = [torch.zeros_like(tensor, dtype=torch.float64) for tensor in tensors]
        for inputs, labels, size in calibration.batches(graph, apart=not come_apart(graph, gated)):
            require_labels(importance, loss, labels)
            watch.clear()
            gates.clear(size)
            with looked_at():
                outputs = runner.run(*inputs)
                by = [*tensors, *gates.tensors]
                value = calibration.mean_loss(outputs, inputs, labels) if by else outputs
                found = torch.autograd.grad(value, by, allow_unused=True) if by else ()
            images += size
            for total, gradient in zip(sums, found, strict=False):
                if gradient is not None:
                    total += gradient.double() * size
            for weight, own in _by_weight(gates.products(found[len(tensors) :])).items():
                products[weight] = products.get(weight, 0.0) + measured(importance, own)
    gradients = {name: total / images for name, total in zip(names, sums, strict=False)}
    means = {weight: total / images for weight, total in products.items()}
    return Evidence(graph, side, seed, watch.means(images), gradients, means)


def calibration_for(importance: Importance, data: Any, *, loss: Loss | None = None, seed: int = 0) -> Calibration:
    """The calibration data of an importance that needs data.

    Raises
    ------
    MaskError
        If there is no data.
    """
    if data is None:
        raise MaskError(f"the importance {importance.name} needs data; give data=, batches of inputs")
    return Calibration(data, loss, importance.samples_labels, seed)


def require_labels(importance: Importance, loss: Loss | None, labels: Any) -> None:
    """Raise an error if a batch has no labels, but the importance needs them."""
    if importance.needs_labels and loss is None and labels is None:
        raise MaskError(f"the importance {importance.name} needs labels; give batches of (inputs, labels)")


def measured(importance: Importance, products: torch.Tensor) -> np.ndarray:
    """The importance's statistic of products, float64 of shape (images, channels), summed over the images.

    Raises
    ------
    MaskError
        If the statistic does not return one number per image and channel.
    """
    assert importance.product_statistic is not None
    with torch.no_grad(), looked_at():
        found = importance.product_statistic(products)
        if found.shape != products.shape:
            raise MaskError(
                f"the importance {importance.name} measures products of shape {tuple(products.shape)} and gets "
                f"{tuple(found.shape)}; its product_statistic must return one number per image and channel"
            )
        total: np.ndarray = found.double().sum(0).cpu().numpy()
    return total


def _by_weight(products: list[tuple[Point, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The products of every weight's channels: summed over its calls, and over the groups of a convolution."""
    found: dict[str, torch.Tensor] = {}
    for point, own in products:
        summed = own.reshape(len(own), point.groups, -1).sum(1)
        found[point.weight] = found[point.weight] + summed if point.weight in found else summed
    return found


class _Watch:
    """Sums a statistic of the tensors that layers read or write."""

    def __init__(self, statistic: Statistic | None) -> None:
        self._statistic = statistic
        self._calls: dict[str, set[Point]] = {}
        self._sums: dict[str, np.ndarray] = {}
        self._known: dict[tuple[str, int], np.ndarray] = {}

    def clear(self) -> None:
        """A new batch comes."""
        self._known.clear()

    def means(self, images: int) -> dict[str, np.ndarray]:
        """Weight name to the mean over images and calls."""
        return {weight: total / (images * len(self._calls[weight])) for weight, total in self._sums.items()}

    def look(self, point: Point, tensor: torch.Tensor) -> None:
        """Measure a tensor. It is measured once, even if several layers read it."""
        key = (point.source, tensor._version)
        if key not in self._known:
            assert self._statistic is not None
            axis = point.layout.axis % tensor.ndim
            maps = tensor.detach()[None] if axis == 0 else tensor.detach().movedim(axis, 1)
            maps = maps if maps.dtype == torch.float64 else maps.float()
            with torch.no_grad():
                self._known[key] = self._statistic(maps).double().sum(0).cpu().numpy()
        own = self._known[key].reshape(point.groups, -1).sum(axis=0)
        self._calls.setdefault(point.weight, set()).add(point)
        self._sums[point.weight] = self._sums.get(point.weight, 0.0) + own
