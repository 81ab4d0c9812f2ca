"""Makes an export train as the masked model does: holds dropped channels at zero, and switches training modes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from upscale_opt.exporting.held_entries import hold_dropped_channels
from upscale_opt.rewriting.exports import ParameterSlice
from upscale_opt.tracing.training_modes import TrainingMode, follow_training_mode


def prepare_training(
    module: fx.GraphModule, slices: Mapping[str, ParameterSlice], model: nn.Module, mode: TrainingMode
) -> None:
    """Make a freshly rewritten module trainable, in place: `hold_dropped_channels` and `follow_training_mode`.

    Parameters
    ----------
    module
        The export's module.
    slices
        The part of each original parameter that the module holds.
    model
        The model that the export was made from.
    mode
        How the model differs in training.
    """
    hold_dropped_channels(module, slices, model)
    follow_training_mode(module, mode)
