"""Fisher scores: what every image loses, to first order, if channels are dropped, for readers alone and together.

The score of a channel, an image and a reader is the sum over positions of value times gradient at the reader's input,
where a mask multiplies. If all readers of a channel drop it, their scores add up before they are squared:
`block_losses`. With `fisher_scores` the scores of the single images can be combined in other ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upscale_opt.arguments.checks import a_flag, above, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.importance.calibration import Calibration, Loss, evaluated, looked_at
from upscale_opt.importance.evidence import Point, require_observed
from upscale_opt.importance.observation import calibration_for, measured
from upscale_opt.importance.registry import Importance
from upscale_opt.importance.taps import Gates, Tapped, come_apart
from upscale_opt.models.network_checks import require_values
from upscale_opt.tracing.finite import require_finite
from upscale_opt.tracing.graphs import Graph, Read

MOST_BYTES = 2**31
"""Memory that the scores of single images may take, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class FisherScores:
    """First-order losses of single images if channels are dropped.

    Attributes
    ----------
    consumers
        Weight name to float64 of shape (images, channels of the mask): what an image loses if this consumer drops the
        channel. It is the sum over the consumer's calls, and over the groups of a convolution.
    blocks
        Block name to float64 of shape (images, channels): what an image loses if all readers of the block drop the
        channel, also readers behind a selection (a channel shuffle). Features of one channel, and several occurrences
        in a concatenation, are added up.
    """

    consumers: Mapping[str, np.ndarray]
    blocks: Mapping[str, np.ndarray]

    @property
    def losses(self) -> dict[str, np.ndarray]:
        """Block name to the mean over the images of the squared score: what `block_losses` returns."""
        return {name: np.square(scores).mean(axis=0) for name, scores in self.blocks.items()}


@entrance(samples_labels=a_flag, max_bytes=above(0, MaskError), seed=whole(0, MaskError))
def fisher_scores(
    graph: Graph,
    data: Any,
    *,
    loss: Loss | None = None,
    samples_labels: bool = True,
    seed: int = 0,
    max_bytes: float = MOST_BYTES,
) -> FisherScores:
    """Score every channel for every image: for each consumer alone, and for all readers of its block together.

    Parameters
    ----------
    graph
        The traced model. It runs in eval mode, and does not change. Its images must not influence each other.
    data
        Batches, as an iterable; see `upscale_opt.importance.calibration.Calibration`.
    loss
        ``loss(outputs, labels)``, a mean over the images of a batch. Default: cross-entropy.
    samples_labels
        If no loss is given: whether labels are drawn from the network's own softmax. Otherwise those of the data count.
    seed
        Seed of the drawn labels.
    max_bytes
        Memory that the scores may take.

    Raises
    ------
    MaskError
        If the data does not fit the network, labels are missing, the output is not one tensor of logits and no loss is
        given, a score is NaN, or the scores need more memory.
    ModelError
        If a weight is NaN or infinite.

    Notes
    -----
    Theis et al., Faster gaze prediction with dense networks and Fisher pruning, arXiv:1801.05787 (2018), and Liu et
    al., Group Fisher Pruning for Practical Network Compression, ICML 2021.
    """
    require_numbers_in(graph)
    calibration = Calibration(data, loss, samples_labels, seed)
    read_weights = {read.weight for read in graph.outer_reads}
    consumers: dict[str, list[np.ndarray]] = {weight: [] for weight in graph.consumers if weight in read_weights}
    channels: list[np.ndarray] = []
    room = max_bytes
    for found in _products(graph, calibration, list(graph.outer_reads)):
        single: dict[str, torch.Tensor] = {}
        for read, own in found:
            summed = own.reshape(len(own), read.groups, -1).sum(1)
            single[read.weight] = single.get(read.weight, torch.zeros_like(summed)) + summed
        joint = channel_products(graph, found)
        room -= sum(own.nbytes for own in (joint, *single.values()))
        if room < 0:
            raise too_large(max_bytes, "or use block_losses, which keeps means only")
        for weight, own in single.items():
            consumers[weight].append(own.cpu().numpy())
        channels.append(joint.cpu().numpy())
    together = np.concatenate(channels)
    require_no_nan(together)
    return FisherScores(
        {weight: np.concatenate(own) for weight, own in consumers.items()},
        {block.name: together[:, where] for block, where in zip(graph.blocks, _places(graph), strict=True)},
    )


@entrance(samples_labels=a_flag, seed=whole(0, MaskError))
def block_losses(
    graph: Graph, data: Any, *, loss: Loss | None = None, samples_labels: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """The estimated loss of dropping each channel of each block for all its readers.

    It is the mean over the images of the squared sum of the readers' scores. Only means are kept, so the number of
    images is free.

    Parameters
    ----------
    graph, data, loss, samples_labels, seed
        As for `fisher_scores`.

    Returns
    -------
    dict
        Block name to float64 of shape (channels,). Blocks that nobody reads have zeros. A block in front of a selection
        (a channel shuffle) counts the readers behind it, which count for the block behind it, too.

    Raises
    ------
    MaskError, ModelError
        In the same cases as `fisher_scores`.
    """
    require_numbers_in(graph)
    calibration = Calibration(data, loss, samples_labels, seed)
    total, images = np.zeros(graph.offsets[-1]), 0
    for found in _products(graph, calibration, list(graph.outer_reads)):
        joint = channel_products(graph, found)
        total += joint.square().sum(0).cpu().numpy()
        images += len(joint)
    mean = total / images
    require_no_nan(mean)
    return {block.name: mean[where] for block, where in zip(graph.blocks, _places(graph), strict=True)}


def shared_scores(
    graph: Graph,
    importance: Importance,
    classes: np.ndarray,
    weights: Iterable[str],
    *,
    data: Any,
    loss: Loss | None = None,
    seed: int = 0,
) -> np.ndarray:
    """The scores of classes of channels that are dropped together, by an importance with a statistic of products.

    Parameters
    ----------
    graph
        The traced model.
    importance
        Its statistic measures the products of a class: summed over the readers and the channels of the class.
    classes
        int64, shape (channels of the network,): the class of every channel.
    weights
        The consumers that count.
    data, loss, seed
        As for `upscale_opt.importance.observation.collect`.

    Returns
    -------
    ndarray
        float64, shape (classes,).

    Raises
    ------
    MaskError
        If data or labels are missing or do not fit the network, or a score is NaN.
    """
    calibration, wanted = calibration_for(importance, data, loss=loss, seed=seed), set(weights)
    require_observed(graph, wanted)
    number, images = int(classes.max()) + 1, 0
    total = np.zeros(number)
    reads = [read for read in graph.outer_reads if read.weight in wanted]
    for found in _products(graph, calibration, reads):
        joint = channel_products(graph, found)
        own = joint.new_zeros(len(joint), number).index_add_(1, _index(classes, joint), joint)
        total += measured(importance, own)
        images += len(own)
    if np.isnan(total).any():
        raise MaskError(
            f"the importance {importance.name} gives {int(np.isnan(total).sum())} of {number} channels the score NaN; "
            "look at the data and the loss, or choose another importance"
        )
    return total / images


def require_numbers_in(graph: Graph) -> None:
    """Raise an error if weights have no values, or if they are NaN or infinite."""
    require_values(graph.module)
    require_finite(graph)


def require_no_nan(scores: np.ndarray) -> None:
    """Raise an error if scores are NaN."""
    if np.isnan(scores).any():
        raise MaskError(f"{int(np.isnan(scores).sum())} of the scores are NaN; look at the data and the loss")


def too_large(max_bytes: float, *remedies: str) -> MaskError:
    """The error about scores of single images that need too much memory."""
    others = "".join(f", {remedy}" for remedy in remedies)
    return MaskError(
        f"the scores of single images take more than {max_bytes / 2**20:.4g} MiB; give fewer images or a larger "
        f"max_bytes{others}"
    )


def channel_products(graph: Graph, found: Iterable[tuple[Read, torch.Tensor]]) -> torch.Tensor:
    """Products of reads as products of the network's channels.

    Parameters
    ----------
    graph
        The traced model.
    found
        Reads with their products, float64 of shape (images, entries of the input).

    Returns
    -------
    Tensor
        float64, shape (images, channels of the network). Channels in front of a selection have the products of the
        channels behind it added.
    """
    pairs = list(found)
    images, device = len(pairs[0][1]), pairs[0][1].device
    total = torch.zeros(images, int(graph.offsets[-1]), dtype=torch.float64, device=device)
    for read, own in pairs:
        total.index_add_(1, _index(graph.numbers(read.input), own), own)
    for selection in reversed(graph.selections):
        source = graph.numbers(selection.input)[selection.index]
        total.index_add_(1, _index(source, total), total[:, _index(graph.numbers(selection.output), total)])
    return total


def _products(graph: Graph, calibration: Calibration, reads: list[Read]) -> Iterator[list[tuple[Read, torch.Tensor]]]:
    """Yield the products of every read's input, batch by batch: float64, shape (images, entries of the input)."""
    if not reads:
        raise MaskError("the network has no convolution and no linear layer to score; choose another model")
    by_node = {read.node: read for read in reads}
    points = [Point(read.weight, read.node, read.source, read.input, read.groups) for read in reads]
    gates = Gates(graph)
    runner = Tapped(graph, points, gates)
    for inputs, labels, size in calibration.batches(graph, apart=not come_apart(graph, points)):
        gates.clear(size)
        with evaluated(graph.module, [], gradients=True), looked_at():
            value = calibration.mean_loss(runner.run(*inputs), inputs, labels)
            found = gates.products(torch.autograd.grad(value, gates.tensors, allow_unused=True))
        yield [(by_node[point.node], own) for point, own in found]


def _places(graph: Graph) -> list[slice]:
    """The place of every block among the channels of the network."""
    return [slice(start, end) for start, end in zip(graph.offsets[:-1], graph.offsets[1:], strict=True)]


def _index(numbers: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(like.device)
