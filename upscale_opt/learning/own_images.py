"""Images from loaders of users, checked as they are read: random access where it is possible, else one pass.

An item is a tuple: an image, or an image and its class number. Nothing is read before it is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import data

from problems.showing.progress import ProgressBar
from upscale_opt.arguments.checks import described
from upscale_opt.errors import LearningError, UpscaleError, first_line


class Images(data.Dataset[Any]):
    """Some images of a map-style `torch.utils.data.Dataset`. Each is read and checked at every access.

    Parameters
    ----------
    source
        The dataset.
    name
        What messages call it.
    numbers
        Which of its images.
    first
        The image that all others are compared with. Default: the first that is read.

    Raises
    ------
    LearningError
        On access, if an image cannot be read, or differs from the first one in shape or in its parts.
    """

    def __init__(
        self, source: Any, name: str, numbers: Sequence[int], first: tuple[torch.Tensor, ...] | None = None
    ) -> None:
        self._source, self._name, self._numbers, self._first = source, name, numbers, first

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        number = self._numbers[index]
        where = f"image {number} of {self._name}"
        try:
            item = self._source[number]
        except UpscaleError:
            raise
        except Exception as error:  # any error: the code is of a user
            raise LearningError(f"{where} cannot be read ({type(error).__name__}: {first_line(error)})") from error
        parts = _parts(item, where)
        label = parts[1:]
        if label and not isinstance(label[0], (int, np.integer)) and getattr(label[0], "ndim", 1) != 0:
            raise LearningError(f"{where} has the label {described(label[0])}; give its class number")
        found = tuple(
            own[0] for own in _images_and_labels((_batch_of_one(parts[0]), *map(_batch_of_one, label)), where)
        )
        if self._first is None:
            self._first = found
        _require_alike(found, self._first, where)
        return found


class Stream(data.Dataset[Any]):
    """Images of an iterable of batches. Batches are read in order as they are needed, and kept in memory.

    Parameters
    ----------
    batches
        Batches: tensors of images, or tuples of images and labels, or of images alone.
    name
        What messages call them.
    extent
        How many there are, in words. It is the same whatever was read.
    start
        The number of the first batch, for messages.

    Raises
    ------
    LearningError
        On access, if the iterable fails, or if a batch is no batch, or differs from the first one.
    """

    def __init__(self, batches: Iterable[Any], name: str, extent: str, start: int = 0) -> None:
        self._rest: Iterator[Any] = itertools.chain.from_iterable((batches,))  # calls iter() at the first batch
        self._name, self.extent, self._next = name, extent, start
        self._items: list[tuple[torch.Tensor, ...]] = []
        self._ended = False
        self._error: LearningError | None = None

    def __len__(self) -> int:
        return self.read()

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        if not self.read(None if index < 0 else index + 1):
            raise LearningError(f"{self._name} ends before batch {self._next}; give as many batches as its length says")
        return self._items[index]

    def __getstate__(self) -> dict[str, Any]:
        """All images: an iterator cannot be sent to another process."""
        self.read()
        return {**vars(self), "_rest": iter(())}

    def read(self, number: int | None = None) -> int:
        """Read up to a number of images, or all. Returns how many there are of them."""
        if self._error is not None:
            raise self._error
        if not self._ended and (number is None or len(self._items) < number):
            bar = ProgressBar[None](f"read {self._name}", unit="batch")
            try:
                with bar:
                    while not self._ended and (number is None or len(self._items) < number):
                        self._read_batch()
                        bar.advance()
            except LearningError as error:
                self._error = error
                raise
        return len(self._items) if number is None else min(number, len(self._items))

    def _read_batch(self) -> None:
        where = f"batch {self._next} of {self._name}"
        try:
            batch = next(self._rest)
        except StopIteration:
            self._ended = True
            return
        except LearningError:
            raise
        except Exception as error:  # any error: the code is of a user
            raise LearningError(f"{where} cannot be read ({type(error).__name__}: {first_line(error)})") from error
        found = _images_and_labels(_parts(batch, where), where)
        items = list(zip(*found, strict=True))
        _require_alike(items[0], self._items[0] if self._items else items[0], where)
        self._items += items
        self._next += 1


def _batch_of_one(part: Any) -> Any:
    return torch.as_tensor(part)[None] if isinstance(part, (torch.Tensor, np.ndarray, int, np.integer)) else part


def _parts(batch: Any, where: str) -> tuple[Any, ...]:
    if isinstance(batch, (torch.Tensor, np.ndarray)):
        return (batch,)
    if not isinstance(batch, (tuple, list)):
        raise LearningError(f"{where} is {described(batch)}; give a tensor of images, or a tuple of images and labels")
    if not 1 <= len(batch) <= 2:
        raise LearningError(f"{where} has {len(batch)} parts; give images and labels, or images alone")
    return tuple(batch)


def _images_and_labels(parts: tuple[Any, ...], where: str) -> tuple[torch.Tensor, ...]:
    """A batch as float32 images and int64 labels, on the CPU."""
    images = torch.as_tensor(parts[0]) if isinstance(parts[0], np.ndarray) else parts[0]
    if not isinstance(images, torch.Tensor) or images.is_meta or not images.is_floating_point():
        kind = f"a tensor of {images.dtype}" if isinstance(images, torch.Tensor) else described(images)
        kind = f"{kind} on the meta device" if getattr(images, "is_meta", False) else kind
        raise LearningError(f"the images of {where} are {kind}; give tensors of floats, scaled as the model expects")
    if images.ndim < 2 or not images.numel():
        raise LearningError(
            f"{where} is a tensor of shape {tuple(images.shape)}; give batches of (images, channels, height, width)"
        )
    images = images.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(images).all()):
        raise LearningError(f"{where} has values that are NaN or infinite; look at how it is loaded")
    return (images, *(_class_numbers(own, len(images), where) for own in parts[1:]))


def _class_numbers(labels: Any, number: int, where: str) -> torch.Tensor:
    remedy = "give one whole number from 0 on per image"
    if isinstance(labels, (np.ndarray, list)):
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise LearningError(
                f"the labels of {where} are no class numbers ({first_line(error)}); {remedy}"
            ) from error
    if not isinstance(labels, torch.Tensor) or labels.is_meta:
        raise LearningError(f"the labels of {where} are no class numbers ({described(labels)}); {remedy}")
    reason = None
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        reason = f"of {labels.dtype}"
    elif labels.shape != (number,):
        reason = f"shape {tuple(labels.shape)} for {number} images"
    elif int(labels.min()) < 0:
        reason = f"one is {int(labels.min())}"
    if reason is not None:
        raise LearningError(f"the labels of {where} are no class numbers ({reason}); {remedy}")
    return labels.detach().to("cpu", torch.int64)


def _require_alike(item: tuple[torch.Tensor, ...], first: tuple[torch.Tensor, ...], where: str) -> None:
    """Raise an error unless an image has the shape of the first one, and labels if that has."""
    if len(item) != len(first):
        has, had = ("labels", "none") if len(item) > len(first) else ("no labels", "some")
        raise LearningError(f"{where} has {has}, and the first has {had}; give labels with every image, or with none")
    if item[0].shape != first[0].shape:
        raise LearningError(
            f"images of {where} have the shape {tuple(item[0].shape)}, and the first {tuple(first[0].shape)}; give "
            "all images one shape"
        )
