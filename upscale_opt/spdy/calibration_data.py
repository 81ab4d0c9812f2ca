"""Calibration images, all in memory: from given batches, or random."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.checks import parts_of, whole
from upscale_opt.arguments.entrance import batches as a_series
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError, first_line
from upscale_opt.models.running import device_of

BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """Inputs of a network, with their labels.

    Attributes
    ----------
    inputs
        One tensor per input of the network, images along the first dimension.
    labels
        Labels for the loss, with images along the first dimension. None if there are no labels.

    Raises
    ------
    MaskError
        If there are no images, or the number of labels differs.
    """

    inputs: tuple[torch.Tensor, ...]
    labels: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if not self.inputs or not len(self.inputs[0]):
            raise MaskError("the calibration data has no images; give at least one batch")
        tensors = self.inputs if self.labels is None else (*self.inputs, self.labels)
        if len({len(own) for own in tensors}) > 1:
            raise MaskError("inputs and labels of the calibration data differ in number; give one label per image")

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.inputs[0])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all values."""
        digest = hashlib.sha256()
        for own in self.inputs if self.labels is None else (*self.inputs, self.labels):
            digest.update(f"{own.dtype} {tuple(own.shape)}".encode())
            digest.update(own.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def batches(
        self, size: int = BATCH_SIZE, generator: torch.Generator | None = None
    ) -> Iterator[tuple[tuple[torch.Tensor, ...], torch.Tensor | None]]:
        """Batches of inputs and labels, in order or shuffled by a generator. The last batch may be smaller."""
        order = torch.arange(self.num_images)
        if generator is not None:
            order = torch.randperm(self.num_images, generator=generator)
        for index in order.split(size):
            own = index.to(self.inputs[0].device)
            yield tuple(x[own] for x in self.inputs), None if self.labels is None else self.labels[own]

    def labelled_by(self, model: nn.Module) -> CalibrationData:
        """The same images, labelled with a model's predicted classes.

        Raises
        ------
        MaskError
            If the model does not return logits with classes along dimension 1.
        """
        labels = []
        with torch.no_grad():
            for inputs, _ in self.batches():
                outputs = model(*inputs)
                if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2:
                    raise MaskError(
                        f"random images get the classes of the model's outputs, which are of {type(outputs).__name__}; "
                        "wrap it in a model that returns logits, or call upscale_opt.allocate with data and loss"
                    )
                labels.append(outputs.argmax(1))
        return CalibrationData(self.inputs, torch.cat(labels))


@entrance(batches=a_series, num_inputs=whole(1, MaskError))
def calibration_data(
    batches: Iterable[Any] | CalibrationData, model: nn.Module, *, num_inputs: int = 1
) -> CalibrationData:
    """Collect batches on the device of a model.

    Parameters
    ----------
    batches
        Tensors, tuples of the network's inputs, or such tuples with labels at the end (for example a DataLoader of
        images and labels).
    model
        The model, whose device is used.
    num_inputs
        Number of inputs of the network.

    Raises
    ------
    MaskError
        If there are no batches, or they have a wrong number of parts.
    """
    device = device_of(model)
    if isinstance(batches, CalibrationData):
        labels = None if batches.labels is None else batches.labels.to(device)
        return CalibrationData(tuple(own.to(device) for own in batches.inputs), labels)
    parts: list[Sequence[torch.Tensor]] = []
    for batch in [batches] if isinstance(batches, torch.Tensor) else batches:
        own = parts_of(batch)
        fits = len(own) in (num_inputs, num_inputs + 1) and len(own) == len(parts[0] if parts else own)
        if not fits or not all(isinstance(part, torch.Tensor) for part in own):
            raise MaskError(
                f"a batch of the calibration data has {len(own)} parts; the network takes {num_inputs} tensors, and "
                "labels may follow, in all batches or in none"
            )
        parts.append([part.to(device) for part in own])
    if not parts:
        raise MaskError("the calibration data has no images; give at least one batch")
    try:
        joined = [torch.cat(own) for own in zip(*parts, strict=True)]
    except (RuntimeError, ValueError) as error:
        raise MaskError(
            f"batches of the calibration data do not fit each other ({first_line(error)}); give them one shape"
        ) from error
    return CalibrationData(tuple(joined[:num_inputs]), joined[num_inputs] if len(joined) > num_inputs else None)


def random_data(model: nn.Module, shape: Sequence[int], *, num_images: int = 256, seed: int = 0) -> CalibrationData:
    """Random images of independent normal noise, labelled with the predicted classes of the dense model.

    Parameters
    ----------
    model
        The dense model in eval mode. It returns logits.
    shape
        Shape of its input, with batch dimension (whose length has no effect).
    num_images
        Number of images.
    seed
        Seed of the images.
    """
    images = torch.randn((num_images, *shape[1:]), generator=torch.Generator().manual_seed(seed))
    return calibration_data(images, model).labelled_by(model)
