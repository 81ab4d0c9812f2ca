"""Stitching: the dense model with the weights of chosen levels, and the loss of this model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upscale_opt.errors import MaskError, first_line
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.running import reestimate_batch_norm
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import frozen_copy
from upscale_opt.spdy.reconstructions import Reconstructions

Loss = Callable[[Any, Any], torch.Tensor]
"""``loss(outputs, labels)``: the mean over the images of a batch."""

_BATCH_SIZE = 256


class Stitching:
    """A copy of the dense model that gets the weights of levels.

    Parameters
    ----------
    model
        The dense model. It is not changed.
    reconstructions
        The weights of the levels.
    reestimate
        Estimate BatchNorm statistics on the calibration data when levels change. Biases and all other values always
        stay dense. Default no, as in SPDY. It helps at high sparsity.
    data
        The calibration data for `reestimate`.
    """

    def __init__(
        self,
        model: nn.Module,
        reconstructions: Reconstructions,
        *,
        reestimate: bool = False,
        data: CalibrationData | None = None,
    ) -> None:
        if reestimate and data is None:
            raise MaskError("BatchNorm statistics are estimated on data; give data=, or leave reestimate out")
        self.model: nn.Module = frozen_copy(model)
        self.reconstructions = reconstructions
        self._layers = {layer.name: layer for layer in reconstructions.layers}
        self._weights = {name: attribute_of(self.model, own.weight) for name, own in self._layers.items()}
        self._dense = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._levels = {name: own.channels for name, own in self._layers.items()}
        self._data = data if reestimate else None

    def put(self, kept: Mapping[str, int]) -> None:
        """Set the levels by numbers of kept channels. Layers that are not named become dense."""
        changed = False
        with torch.no_grad():
            for name, layer in self._layers.items():
                count = kept.get(name, layer.channels)
                if count == self._levels[name]:
                    continue
                dense = count == layer.channels
                weight = self._dense[name] if dense else self.reconstructions.levels[name, count].weight
                self._weights[name].copy_(weight)
                self._levels[name] = count
                changed = True
        if changed and self._data is not None:
            reestimate_batch_norm(self.model, (inputs for inputs, _ in self._data.batches(_BATCH_SIZE)))

    def masks(self) -> dict[str, np.ndarray]:
        """The masks of the current levels of all layers: weight name to Boolean array, True = kept."""
        found = self.reconstructions
        return {own.weight: found.mask(own, self._levels[own.name]) for own in found.layers}

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the state_dict. Columns that masks drop are exactly zero."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}


def mean_loss(model: nn.Module, data: CalibrationData, loss: Loss | None = None) -> float:
    """The mean loss over images. The model is used as given.

    Parameters
    ----------
    model
        The model in eval mode.
    data
        Images with labels. A loss that ignores labels needs none.
    loss
        Default: cross-entropy.

    Raises
    ------
    MaskError
        If labels are missing, or the loss rejects the model's outputs.
    """
    if data.labels is None and loss is None:
        raise MaskError("the score of a choice is a loss, which needs labels; give batches of (inputs, labels)")
    measure: Loss = loss or functional.cross_entropy
    total = 0.0
    with torch.no_grad():
        for inputs, labels in data.batches(_BATCH_SIZE):
            outputs = model(*inputs)
            try:
                total += float(measure(outputs, labels)) * len(inputs[0])
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise MaskError(
                    f"the loss rejects a batch ({first_line(error)}); give loss=, and labels that fit it"
                ) from error
    return total / data.num_images
