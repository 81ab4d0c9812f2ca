"""The masked network: a copy where weights dropped by masks are zero. Exports are compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from upscale_opt.arguments.entrance import entrance
from upscale_opt.models.attributes import attribute_of, copied
from upscale_opt.models.network_checks import input_axis, masks_by_weight


@entrance()
def masked_copy(model: Any, masks: Mapping[str, np.ndarray], axes: Mapping[str, int] | None = None) -> Any:
    """Make the masked model: a copy of a model where the dropped input channels have zero weights.

    Parameters
    ----------
    model
        Any module; it is not changed.
    masks
        Weight or module name to Boolean array, True = kept, or to a list of kept channels.
    axes
        Weight name to the dimension of its input channels. Default: 0 for transposed convolutions, 1 for others.

    Raises
    ------
    MaskError
        If a name is not a weight of the model, or a mask does not fit.
    """
    masked = copied(model)
    drop_columns(masked, masks_by_weight(masked, masks, axes or {}), axes)
    return masked


@torch.no_grad()
def drop_columns(model: nn.Module, masks: Mapping[str, np.ndarray], axes: Mapping[str, int] | None) -> None:
    """Set the weights of dropped input channels to zero, in place."""
    for name, mask in masks.items():
        weight = attribute_of(model, name)
        axis = axes[name] if axes is not None and name in axes else input_axis(model, name)
        weight.transpose(axis, 0)[torch.from_numpy(~mask).to(weight.device)] = 0
