"""What makes an export train as the masked model does: dropped channels held at zero, modes that are switched."""

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
        Which part of each original parameter it holds.
    model
        What it was made from.
    mode
        What the model does otherwise in training.
    """
    hold_dropped_channels(module, slices, model)
    follow_training_mode(module, mode)
