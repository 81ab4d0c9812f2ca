"""A set of images, with labels or without: batches to learn from, batches to test on, and samples of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from upscale_opt.errors import LearningError, first_line
from upscale_opt.learning.own_images import Stream
from upscale_opt.models.running import device_of, in_modes


class Batches:
    """Batches of a data loader, as tuples: images and labels, or images alone.

    An error in a process that loads images is raised as the one sentence that it is in this process.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        try:
            for batch in self._loader:
                yield tuple(batch)
        except LearningError as error:
            lines = str(error).strip().splitlines()  # torch adds the traceback of the other process
            if len(lines) < 2:
                raise
            raise LearningError(lines[-1].partition(": ")[2] or lines[-1]) from error


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, split into training images and test images.

    Attributes
    ----------
    name
        The name that was passed to `load_data`.
    train, test
        Indexable tuples of an image (float32 of shape `input_shape`) and, if there are labels, its class number.
        `train` is None if there are only test images. Without labels, `train` is for calibration and distillation, and
        `test` is held out.
    num_classes
        Number of classes. None if it is unknown: without labels, and for data of one's own.
    input_shape
        Shape of one image: channels, height, width.
    workers
        Number of processes that load images. 0: the calling process.
    unaugmented
        The images of `train` with the test transform, for calibration. Default: `train` itself.
    labelled
        Whether the images have labels.
    notes
        What a user should know about the data, one sentence each.
    """

    name: str
    train: Any
    test: Any
    num_classes: int | None
    input_shape: tuple[int, ...]
    workers: int = 0
    unaugmented: Any = None
    labelled: bool = True
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        learned = "none" if self.train is None else _number(self.train)
        learned = learned if isinstance(self.train, Stream) else f"{learned} images"
        if not self.labelled:
            return f"{self.name}: {learned} for calibration, {_number(self.test)} held out, no labels"
        classes = "labelled" if self.num_classes is None else f"{self.num_classes} classes"
        return f"{self.name}: {learned} to learn from, {_number(self.test)} to test, {classes}"

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Batches:
        """The training images in batches, in a new order for each pass.

        Only the generator determines the order. Its state is enough to resume at the start of an epoch. If the last
        batch is not full, it is left out.

        Raises
        ------
        LearningError
            If there are no training images.
        """
        self._require_train()
        full = len(self.train) >= batch_size
        return Batches(
            DataLoader(
                self.train, batch_size, shuffle=True, generator=generator, drop_last=full, num_workers=self.workers
            )
        )

    def test_batches(self, batch_size: int = 256) -> Batches:
        """The test images in batches, in order. This uses no numbers of torch's global generator."""
        return Batches(DataLoader(self.test, batch_size, num_workers=self.workers, generator=torch.Generator()))

    def sampled(
        self, number: int, *, test: bool = False, seed: int = 0, batch_size: int = 32
    ) -> list[tuple[torch.Tensor, ...]]:
        """A sample of the images in memory, for calibration and for checks of it.

        Parameters
        ----------
        number
            How many images. If there are fewer, all of them.
        test
            Sample test images. Default: training images, without augmentation.
        seed
            Seed of the sample. Images are drawn without replacement. Images that come as batches of an iterable are not
            drawn: the first ones are taken, and no others are read.
        batch_size
            Images per batch.

        Returns
        -------
        list
            Tuples of images and labels, or of images alone.

        Raises
        ------
        LearningError
            If the number is not positive, or there are no training images.
        """
        if number < 1:
            raise LearningError(f"the number of images is {number}; give a whole number of at least 1")
        if not test:
            self._require_train()
        images = self.test if test else self.train if self.unaugmented is None else self.unaugmented
        if isinstance(images, Stream):
            chosen = list(range(images.read(number)))
        else:
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:number].tolist()
        loader: DataLoader[Any] = DataLoader(
            Subset(images, chosen), batch_size, num_workers=self.workers, generator=torch.Generator().manual_seed(0)
        )
        return list(Batches(loader))

    def require_labels(self, what: str, remedy: str) -> None:
        """Raise an error unless the images have labels.

        Parameters
        ----------
        what
            What needs labels, as the subject of a sentence.
        remedy
            What to do without labels.

        Raises
        ------
        LearningError
            If there are no labels.
        """
        if not self.labelled:
            raise LearningError(f"{what} needs labels, and {self.name} has none; {remedy}")

    def _require_train(self) -> None:
        if self.train is None:
            folder = Path(self.name).is_dir()
            remedy = f"put class folders into {self.name}/train" if folder else "give data that has some"
            raise LearningError(f"{self.name} has no images to learn from; {remedy}")

    def require_fitting(self, model: nn.Module) -> None:
        """Raise an error unless the model accepts these images and has one output per class. The model is unchanged.

        Without labels, the outputs may be of any form.

        Raises
        ------
        LearningError
            If the model does not fit.
        """
        shape = "x".join(map(str, self.input_shape))
        images = self.train if isinstance(self.train, Stream) else self.test  # the first batch of all is read already
        x = images[0][0][None].to(device_of(model))
        try:
            with in_modes(model, training=False), torch.no_grad():
                outputs = model(x)
        except Exception as error:  # any error: an architecture may fail on images of another shape
            raise LearningError(
                f"the model cannot take the images of {self.name}, of shape {shape} ({first_line(error)}); choose a "
                "model made for that shape"
            ) from error
        if not self.labelled:
            return
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            raise LearningError("the model must return one tensor of shape (images, classes); wrap it in one that does")
        if self.num_classes is not None and outputs.shape[1] != self.num_classes:
            raise LearningError(
                f"the model has {outputs.shape[1]} outputs, but {self.name} has {self.num_classes} classes; give a "
                f"model with {self.num_classes} outputs"
            )


def _number(images: Any) -> str:
    """How many images there are, or the batches of an iterable, whose images are not counted."""
    return f"{images.extent} of images" if isinstance(images, Stream) else str(len(images))
