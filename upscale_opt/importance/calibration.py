"""Batches of calibration data, the loss on them, and the state of a model that looks at them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upscale_opt.arguments.checks import parts_of
from upscale_opt.capture.regions import unwound
from upscale_opt.errors import MaskError, first_line
from upscale_opt.models.running import device_of
from upscale_opt.tracing.graphs import Graph

Loss = Callable[[Any, Any], torch.Tensor]
"""``loss(outputs, labels)``, a mean over the images of a batch. The labels are None if the data has none."""


@dataclass(frozen=True)
class Calibration:
    """Calibration data, and the loss whose gradients are wanted.

    Attributes
    ----------
    data
        Batches, as an iterable. A batch is a tensor, a tuple of the network's inputs, or such a tuple with labels at
        the end (a DataLoader of images and labels). A single tensor is one batch of inputs.
    loss
        See `Loss`. Default: cross-entropy.
    samples_labels
        If no loss is given: whether the labels are drawn from the network's own softmax (`sampled_labels`). Labels of
        the data are then not used.
    seed
        Seed of the drawn labels.
    """

    data: Any
    loss: Loss | None = None
    samples_labels: bool = True
    seed: int = 0

    def batches(self, graph: Graph, *, apart: bool = False) -> Iterator[tuple[tuple[Any, ...], Any, int]]:
        """Yield the inputs of every batch, its labels (None if there are none), and its number of images.

        Parameters
        ----------
        graph
            The traced model. The tensors are moved to its device.
        apart
            Whether to make a batch of every image.

        Raises
        ------
        MaskError
            If a batch does not fit the network, if there is no image, or if the labels of single images are unknown.
        """
        number = sum(node.op == "placeholder" and not node.args for node in graph.module.graph.nodes)
        device, images = device_of(graph.module), 0
        for batch in [self.data] if isinstance(self.data, torch.Tensor) else self.data:
            parts = parts_of(batch)
            tensors = all(isinstance(part, torch.Tensor) for part in parts[:number])
            if len(parts) not in (number, number + 1) or not tensors:
                raise MaskError(
                    f"a batch of the data has {len(parts)} parts; the network takes {number} tensors, and labels may "
                    "follow"
                )
            moved = tuple(_usable(part, device) if isinstance(part, torch.Tensor) else part for part in parts)
            inputs, labels = moved[:number], moved[number] if len(moved) > number else None
            size = len(inputs[0]) if inputs[0].ndim else 1
            images += size
            if not apart or size == 1:
                yield inputs, labels, size
                continue
            for i in range(size):
                yield _image(inputs, i, size), None if labels is None else _image((labels,), i, size)[0], 1
        if not images:
            raise MaskError("the data has no images; give at least one batch")

    def mean_loss(self, outputs: Any, inputs: tuple[Any, ...], labels: Any) -> torch.Tensor:
        """The mean loss of a batch.

        Raises
        ------
        MaskError
            If labels are to be drawn, but the output is not one tensor of logits, or if there are no labels.
        """
        if self.loss is not None:
            return self.loss(outputs, labels)
        if self.samples_labels:
            labels = sampled_labels(outputs, inputs, self.seed)
        if labels is None:
            raise MaskError("the data has no labels; give batches of (inputs, labels), or a loss= that needs none")
        return functional.cross_entropy(outputs, labels)


def sampled_labels(outputs: Any, inputs: tuple[Any, ...], seed: int = 0) -> torch.Tensor:
    """Draw the label of every image from the softmax of a network's logits.

    The draw depends only on the seed, the values of the image and the logits. So the order of the images and the size
    of the batches do not matter, and equal images have equal labels.

    Parameters
    ----------
    outputs
        The logits, float of shape (images, classes).
    inputs
        The network's inputs for these images.
    seed
        Seed of the draws.

    Returns
    -------
    Tensor
        int64, shape (images,).

    Raises
    ------
    MaskError
        If the outputs are not one tensor of logits.

    Examples
    --------
    >>> sampled_labels(torch.tensor([[0.0, 99.0], [99.0, 0.0]]), (torch.zeros(2, 3),))
    tensor([1, 0])
    """
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or not outputs.is_floating_point():
        raise MaskError(
            "the network's output is not one tensor of logits with the shape (images, classes), so no labels can be "
            "drawn from it; give loss=, a mean over the images of a batch"
        )
    size = len(outputs)
    draws = [_uniform(_image(inputs, i, size), seed) for i in range(size)]
    shares = outputs.detach().double().softmax(1).cumsum(1)
    below = shares < torch.tensor(draws, dtype=torch.float64, device=outputs.device)[:, None]
    return below.sum(1).clamp(max=outputs.shape[1] - 1)


def _uniform(image: tuple[Any, ...], seed: int) -> float:
    """A number in [0, 1) that depends on the values of an image and on the seed."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8)
    for part in image:
        if isinstance(part, torch.Tensor):
            digest.update(part.detach().reshape(-1).contiguous().view(torch.uint8).cpu().numpy().tobytes())
    return np.random.default_rng(int.from_bytes(digest.digest(), "little")).random()


def _image(parts: tuple[Any, ...], i: int, size: int) -> tuple[Any, ...]:
    """The inputs or labels of one image of a batch, as a batch of their own."""
    try:
        single = [isinstance(part, torch.Tensor) and not part.ndim for part in parts]
        fits = all(own or len(part) == size for own, part in zip(single, parts, strict=True))
    except TypeError:
        fits = False
    if not fits:
        raise MaskError("a batch of the data cannot be cut into its images; give batches of one image")
    return tuple(part if own else part[i : i + 1] for own, part in zip(single, parts, strict=True))


def _usable(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device. A copy if it is an inference-mode tensor, because gradients cannot pass such a tensor."""
    with torch.inference_mode(False):
        moved = tensor.to(device)
        return moved.clone() if moved.is_inference() else moved


@contextmanager
def looked_at() -> Iterator[None]:
    """Make errors of a model or a loss that does not fit a batch one sentence. Leave all regions of the model."""
    try:
        with unwound():
            yield
    except MaskError as error:  # torch.fx appends the node to errors of a run
        raise MaskError(first_line(error)) from error
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise MaskError(
            f"the model or the loss rejects a batch of the data ({first_line(error)}); give batches of the network's "
            "inputs, with labels behind them if the importance needs some"
        ) from error


@contextmanager
def evaluated(module: nn.Module, tensors: list[torch.Tensor], *, gradients: bool) -> Iterator[None]:
    """Put a module in eval mode, and restore everything at the end.

    With tensors, gradients are enabled for them and for all parameters. Otherwise parameters have no gradients, and
    `gradients` says whether others can be computed.
    """
    training = [own for own in module.modules() if own.training]
    changed = [own for own in (*module.parameters(), *tensors) if own.is_floating_point()]
    wanted = [(own, own.requires_grad) for own in changed if tensors or gradients]
    try:
        module.eval()
        for own, _ in wanted:  # all: an in-place change of a tensor may need a producer with gradients
            own.requires_grad_(bool(tensors))
        with torch.inference_mode(False), torch.set_grad_enabled(bool(tensors) or gradients):
            yield
    finally:
        for own, value in wanted:
            own.requires_grad_(value)
        for part in training:
            part.training = True
