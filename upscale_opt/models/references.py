"""References to models: name, weights and input shape as plain data. This module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from upscale_opt.arguments.checks import a_path, a_shape, a_text, optional, settle_fields, whole
from upscale_opt.errors import ModelError


@dataclass(frozen=True)
class ModelReference:
    """All data that is needed to build a model again.

    Attributes
    ----------
    name
        A torchvision name, ``timm:NAME`` or ``path/to/file.py:factory``.
    weights
        None for random weights, ``DEFAULT``, or the path of a checkpoint.
    seed
        Seed of the random weights.
    input_shape
        Shape of the example input, batch included.

    Raises
    ------
    UpscaleError
        If a value is not valid.
    """

    name: str
    weights: str | None = None
    seed: int = 0
    input_shape: tuple[int, ...] = (1, 3, 224, 224)

    def __post_init__(self) -> None:
        settle_fields(self, name=a_text, weights=optional(a_path), seed=whole(0, ModelError), input_shape=a_shape)
        object.__setattr__(self, "weights", None if self.weights is None else str(self.weights))
