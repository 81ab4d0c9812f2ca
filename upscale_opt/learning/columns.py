"""The columns of a model's weights during training with masks. Dropped columns are held at exactly zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.learning.loop import Method, Training
from upscale_opt.masking.masked_graph import MaskedGraph
from upscale_opt.models.attributes import attribute_of
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph

Masks = dict[str, np.ndarray]


class Columns:
    """The masks of a model in training. Holds its dropped weights at zero.

    Parameters
    ----------
    model
        The model. `set` changes it.
    graph
        The trace of the model, or of a copy.
    weights
        Names of the weights that may be masked.

    Raises
    ------
    ModelError
        If a weight is NaN or infinite.
    """

    def __init__(self, model: nn.Module, graph: Graph, weights: Iterable[str]) -> None:
        require_finite(graph)
        self.model = model
        self.graph = graph
        self.weights: dict[str, nn.Parameter] = {name: attribute_of(model, name) for name in weights}
        self.axes = {name: graph.consumers[name].input_axis for name in self.weights}
        self.masks: Masks = {name: np.ones(self.size(name), dtype=bool) for name in self.weights}
        self._dropped: dict[str, torch.Tensor] = {}
        self._dead: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._refresh(self.weights)

    def size(self, name: str) -> int:
        """Length of the mask of a weight."""
        return self.weights[name].shape[self.axes[name]]

    def set(self, masks: Mapping[str, np.ndarray]) -> None:
        """Mask weights, in place. Newly dropped columns become zero. Newly kept columns start at zero.

        Parameters
        ----------
        masks
            Weight name to Boolean array, True = kept. Other weights keep their masks.
        """
        changed = [name for name, mask in masks.items() if not np.array_equal(mask, self.masks[name])]
        self.masks |= {name: np.asarray(masks[name], dtype=bool).copy() for name in masks}
        self._refresh(changed)
        with torch.no_grad():
            for name in masks:
                self.weights[name].masked_fill_(self._dropped[name], 0)

    def hold_gradients(self) -> None:
        """Set the gradients of dropped columns to zero, in place."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.masked_fill_(self._dropped[name], 0)

    def hold(self, optimiser: torch.optim.Optimizer) -> None:
        """Set dropped columns and their momentum to zero, in place."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.masked_fill_(self._dropped[name], 0)
                for value in optimiser.state.get(weight, {}).values():
                    if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                        value.masked_fill_(self._dropped[name], 0)

    def dead(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Parameters of channels that no consumer reads, each with a bool mask of these entries that broadcasts."""
        return self._dead

    def norms(self, weights: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """L2 norms of the columns; float64, shape (channels,)."""
        return {name: np.sqrt(self.sums(name, self.weights[name].detach().square())) for name in weights or self.masks}

    def sums(self, name: str, tensor: torch.Tensor) -> np.ndarray:
        """Sum a tensor of a weight's shape over all dimensions but the input channels; float64, shape (channels,)."""
        return tensor.detach().double().movedim(self.axes[name], 0).flatten(1).sum(1).cpu().numpy()

    def entries(self, name: str, mask: np.ndarray) -> torch.Tensor:
        """A mask of channels as a tensor that broadcasts to the weight, on the weight's device."""
        weight = self.weights[name]
        shape = [-1 if d == self.axes[name] else 1 for d in range(weight.ndim)]
        return torch.from_numpy(np.asarray(mask)).to(weight.device).reshape(shape)

    def _refresh(self, changed: Iterable[str]) -> None:
        names = list(changed)
        self._dropped |= {name: self.entries(name, ~self.masks[name]) for name in names}
        if names:
            self._dead = dead_entries(self.model, self.graph, self.masks)


def dead_entries(
    model: nn.Module, graph: Graph, masks: Mapping[str, np.ndarray]
) -> list[tuple[nn.Parameter, torch.Tensor]]:
    """Parameters of channels that no consumer reads, each with a bool mask of such entries that broadcasts to it.

    Parameters
    ----------
    model
        The model.
    graph
        The trace of the model, or of a copy.
    masks
        Weight name to Boolean array. Consumers without a mask read everything.
    """
    stored = MaskedGraph(graph, masks).stored
    found = []
    for name, layouts in graph.parameters.items():
        parameter = attribute_of(model, name)
        if not isinstance(parameter, nn.Parameter):
            continue
        dead = torch.zeros([1] * parameter.ndim, dtype=torch.bool)
        for dimension, layout in layouts.items():
            unread = ~stored[graph.numbers(layout)]
            shape = [-1 if d == dimension else 1 for d in range(parameter.ndim)]
            dead = dead | torch.from_numpy(unread).reshape(shape)
        if bool(dead.any()):
            found.append((parameter, dead.to(parameter.device)))
    return found


class HeldColumns(Method):
    """Trains with masks: dropped columns stay zero, and filters that no consumer reads do not decay.

    If all consumers drop a filter's channel, the filter has no gradient. Weight decay alone would then shrink it to
    zero. A column that reads it again later would then have no gradient either.

    Parameters
    ----------
    columns
        The columns of the model.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._kept: list[torch.Tensor] = []

    def before_step(self, training: Training) -> None:
        """Set the gradients of dropped columns to zero, and store the filters that no consumer reads."""
        self.columns.hold_gradients()
        self._kept = [parameter.detach().clone() for parameter, _ in self.columns.dead()]

    def after_step(self, training: Training) -> None:
        """Set dropped columns to zero, and restore the filters that no consumer reads. Neither has momentum."""
        with torch.no_grad():
            for (parameter, dead), before in zip(self.columns.dead(), self._kept, strict=True):
                parameter.copy_(torch.where(dead, before, parameter))
                for value in training.optimiser.state.get(parameter, {}).values():
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                        value.masked_fill_(dead, 0)
        self._kept = []
        self.columns.hold(training.optimiser)

    def settings(self) -> dict[str, str]:
        """The number of weights that may be masked."""
        return {"masked layers": str(len(self.columns.weights))}

    def state(self) -> dict[str, Any]:
        """The masks."""
        return {"masks": {name: torch.from_numpy(mask) for name, mask in self.columns.masks.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Set the stored masks."""
        self.columns.set({name: mask.numpy() for name, mask in state["masks"].items()})
