"""Inputs of a saved form at any batch size and image size, to write it and to check it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from upscale_opt.models.memory_formats import memory_format_of
from upscale_opt.models.nested import map_nested, map_tensors, nested_tensors

_BATCH = 2  # not 1, because torch.export treats 1 as a constant
_BATCHES = (_BATCH, 1, 3)


class Samples:
    """Inputs of a module at any batch size, made from an example. Floating-point values are random.

    Parameters
    ----------
    example
        The example inputs, maybe nested.
    dynamic_batch
        Whether the batch size may vary.
    vectors
        Whether inputs of shape (N,) count as one value per sample.
    images
        Whether the third and fourth axis of inputs with four axes may vary, too.
    """

    def __init__(
        self, example: tuple[Any, ...], dynamic_batch: bool, *, vectors: bool = True, images: bool = False
    ) -> None:
        self.example = example
        self.dynamic_batch = dynamic_batch
        self.vectors = vectors
        self.images = images
        sizes = [x.shape[0] for x in nested_tensors(example) if x.ndim > 1]
        self.size = sizes[0] if sizes else 1
        self.generator = torch.Generator().manual_seed(0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes to try."""
        return (
            _BATCHES if self.dynamic_batch and any(map(self._has_batch, nested_tensors(self.example))) else (self.size,)
        )

    def inputs(self, size: int, *, other_image: bool = False) -> tuple[Any, ...]:
        """Inputs of a batch of `size` samples. With `other_image`, images have twice the size."""
        made: tuple[Any, ...] = map_tensors(lambda x: self._sized(x, size, 2 if other_image else 1), self.example)
        return made

    def dynamic_shapes(self, *, named: bool = False) -> tuple[Any, ...] | None:
        """The dynamic dimensions for `torch.export`; or names for all of them, as ONNX files have them."""
        if not self.dynamic_batch and not self.images:
            return None
        batch = torch.export.Dim("batch")
        sides = [torch.export.Dim(name) if named else torch.export.Dim.AUTO for name in ("height", "width")]

        def of(x: Any) -> dict[int, Any] | None:
            found: dict[int, Any] = {0: batch} if self.dynamic_batch and self._has_batch(x) else {}
            if self.images and isinstance(x, torch.Tensor) and x.ndim == 4:
                found |= {2: sides[0], 3: sides[1]}
            return found or None

        shapes: tuple[Any, ...] = map_nested(of, self.example)
        return shapes

    def _has_batch(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor) and x.ndim > (0 if self.vectors else 1) and x.shape[0] == self.size

    def _sized(self, x: torch.Tensor, size: int, scale: int) -> torch.Tensor:
        if scale > 1 and x.ndim == 4:
            x = x.repeat(1, 1, scale, scale)
        if not x.is_floating_point():
            return x[torch.arange(size) % self.size] if self._has_batch(x) else x
        shape = (size, *x.shape[1:]) if self._has_batch(x) else tuple(x.shape)
        values = torch.randn(shape, generator=self.generator).to(x.device, x.dtype)
        return values.to(memory_format=memory_format_of(x))


def with_images(batch: Samples, free: Collection[str]) -> Samples | None:
    """The same samples with a variable image size. None if the network has no images, or no free image size."""
    if not batch.dynamic_batch or not {"height", "width"} <= set(free):
        return None
    return Samples(batch.example, True, vectors=batch.vectors, images=True)
