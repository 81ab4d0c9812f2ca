"""Scores of pairs of a writer and a reader of a stream: what an image loses, to first order, if one is cut off.

A stream is a block with several writers (residual additions) and readers. If a reader does not see what one writer
added to a channel, the loss of an image changes, to first order, by the score of this pair and channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upscale_opt.arguments.checks import a_flag, above, described, names, optional, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import MaskError
from upscale_opt.importance.calibration import Calibration, Loss, evaluated, looked_at
from upscale_opt.importance.evidence import Point
from upscale_opt.importance.fisher import (
    MOST_BYTES,
    channel_products,
    require_no_nan,
    require_numbers_in,
    too_large,
)
from upscale_opt.importance.stream_accesses import Stream, stream_of
from upscale_opt.importance.taps import Tapped, come_apart, require_apart
from upscale_opt.tracing.graphs import Graph, Read


@dataclass(frozen=True, eq=False)
class StreamScores:
    """Scores of the pairs of a block's writers and readers, for single images.

    Attributes
    ----------
    block
        Name of the block.
    writers, readers
        Names of the producers and consumers, in execution order.
    pairs
        A writer and a reader each, by number, where the reader reads what the writer wrote.
    scores
        Shape (images, pairs, channels), float64 if the network computes in float64, otherwise float32: the sum over
        positions of what the writer added times the gradient of the image's loss by it through this reader alone.
    rest
        Shape (images, readers, channels), of the same type: what a mask on the reader's input loses beyond its pairs.
        It is zero if the reader's input scales with the stream (additions, ReLU, pooling). It is not if something
        constant is added on the way (the shift of a BatchNorm), or if an operator bends (SiLU).
    """

    block: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    scores: np.ndarray
    rest: np.ndarray

    def losses(self, lost: Sequence[bool] | np.ndarray, *, without: Sequence[bool] | np.ndarray = ()) -> np.ndarray:
        """The mean over the images of the squared sum of what is lost: float64, shape (channels,).

        Parameters
        ----------
        lost
            For each pair, whether it is cut off.
        without
            For each reader, whether it does not read the channel at all, so that the rest is lost, too. Default: none.
        """
        total = self.scores[:, np.asarray(lost, dtype=bool)].sum(axis=1, dtype=np.float64)
        if len(without):
            total += self.rest[:, np.asarray(without, dtype=bool)].sum(axis=1, dtype=np.float64)
        return np.asarray(np.square(total).mean(axis=0))

    def moments(self) -> np.ndarray:
        """The mean over the images of the products of two pairs' scores: float64, shape (channels, pairs, pairs).

        The loss of any set of pairs is the sum of the entries of these pairs.
        """
        scores = self.scores.astype(np.float64).transpose(2, 1, 0)
        return np.asarray(scores @ scores.transpose(0, 2, 1) / scores.shape[2])


@entrance(samples_labels=a_flag, max_bytes=above(0, MaskError), seed=whole(0, MaskError), blocks=optional(names))
def stream_scores(
    graph: Graph,
    data: Any,
    *,
    blocks: Iterable[str] | None = None,
    loss: Loss | None = None,
    samples_labels: bool = True,
    seed: int = 0,
    max_bytes: float = MOST_BYTES,
) -> dict[str, StreamScores]:
    """Score every pair of a writer and a reader of a stream, for every channel and image.

    The sum over the pairs of a reader, and its rest, is the reader's score of the channel (`fisher_scores`).

    Parameters
    ----------
    graph
        The traced model. It runs in eval mode, and does not change. Its images must not influence each other.
    data, loss, samples_labels, seed
        As for `upscale_opt.importance.fisher.fisher_scores`.
    blocks
        Names of blocks. Default: all blocks with several writers that add up, and whose channels can be removed.
    max_bytes
        Memory that the scores may take.

    Returns
    -------
    dict
        Block name to scores.

    Raises
    ------
    MaskError
        If a block does not exist or has no writer, a product joins two writers, the data does not fit, labels are
        missing, a score is NaN, or the scores need more memory.
    ModelError
        If a weight is NaN or infinite.

    Notes
    -----
    The gradients at the readers' inputs come from one backward pass. Then the network runs again, with the outputs of
    all consumers as constants, and the gradient of each reader is pulled back to the writers before it. The estimate is
    that of Theis et al. (arXiv:1801.05787, 2018), with a gate for every pair in place of a gate for every channel.
    """
    require_numbers_in(graph)
    streams = _chosen(graph, [blocks] if isinstance(blocks, str) else blocks)
    calibration = Calibration(data, loss, samples_labels, seed)
    readers = {read.node: read for stream in streams for read in stream.readers}
    points = [_in_front(read) for read in readers.values()]
    written = [Point(own.name, own.node, own.node, own.layout) for stream in streams for own in stream.writers]
    scores: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {stream.block: [] for stream in streams}
    room = max_bytes
    apart = not come_apart(graph, [*points, *written])
    for inputs, labels, size in calibration.batches(graph, apart=apart) if streams else ():
        with evaluated(graph.module, [], gradients=True), looked_at():
            gradients = _gradients(graph, points, calibration, inputs, labels, size)
            for stream in streams:
                found = _Pulled(graph, stream, gradients, size).scores(inputs)
                require_no_nan(found[0])
                room -= sum(own.nbytes for own in found)
                if room < 0:
                    raise too_large(max_bytes, "or fewer blocks=")
                scores[stream.block].append(found)
    return {
        graph.blocks[stream.block].name: StreamScores(
            graph.blocks[stream.block].name,
            tuple(own.name for own in stream.writers),
            tuple(own.name for own in stream.readers),
            stream.pairs,
            *(np.concatenate(parts) for parts in zip(*scores[stream.block], strict=True)),
        )
        for stream in streams
    }


def _chosen(graph: Graph, blocks: Iterable[str] | None) -> list[Stream]:
    """The streams of the named blocks. By default, those that `stream_scores` names."""
    number = {block.name: b for b, block in enumerate(graph.blocks)}
    if blocks is None:
        able = [b for b, block in enumerate(graph.blocks) if block.removable and not block.pinned]
        found = [stream_of(graph, b) for b in able]
        return [own for own in found if len(own.writers) > 1 and own.pairs and own.product is None]
    chosen = []
    for name in blocks:
        if name not in number:
            raise MaskError(f"there is no block {described(name)}; graph.blocks lists the blocks of the network")
        chosen.append(stream_of(graph, number[name]))
        if chosen[-1].product is not None:
            raise MaskError(
                f"{chosen[-1].product} multiplies what two writers of the block {name!r} write, so that it does not "
                "add up; leave the block out"
            )
        if not chosen[-1].pairs:
            raise MaskError(f"nobody reads what is written into the block {name!r}; leave it out")
    return chosen


def _in_front(read: Read) -> Point:
    return Point(read.weight, read.node, read.source, read.input, read.groups)


def _gradients(
    graph: Graph, points: list[Point], calibration: Calibration, inputs: tuple[Any, ...], labels: Any, size: int
) -> dict[str, torch.Tensor]:
    """The gradients of the single images' losses by the inputs of these readers, by the reader's node."""
    taps: dict[str, torch.Tensor] = {}

    def tap(point: Point, tensor: torch.Tensor) -> torch.Tensor:
        require_apart(point, tensor, size)
        own = tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()
        taps[point.node] = own
        return own

    value = calibration.mean_loss(Tapped(graph, points, tap).run(*inputs), inputs, labels)
    found = torch.autograd.grad(value, list(taps.values()), allow_unused=True)
    return {
        node: torch.zeros_like(own) if gradient is None else gradient * size
        for (node, own), gradient in zip(taps.items(), found, strict=True)
    }


class _Pulled:
    """One more run, in which writers are the only variables. The gradients at readers are pulled back to them.

    Each gradient is pulled back when the reader is reached: later nodes may change the stream in place.
    """

    def __init__(self, graph: Graph, stream: Stream, gradients: dict[str, torch.Tensor], size: int) -> None:
        self._graph, self._stream, self._size = graph, stream, size
        self._gradients = gradients
        self._leaves: dict[int, torch.Tensor] = {}
        self._writer = {own.node: t for t, own in enumerate(stream.writers)}
        self._reader = {own.node: j for j, own in enumerate(stream.readers)}
        self._pair = {own: p for p, own in enumerate(stream.pairs)}
        width = graph.blocks[stream.block].size
        self._found = np.zeros((size, len(stream.pairs), width))
        self._rest = np.zeros((size, len(stream.readers), width))
        self._dtype: Any = np.float32

    def scores(self, inputs: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The scores of the pairs and the rest, for one batch."""
        graph, stream = self._graph, self._stream
        cut = {read.node for read in (*graph.reads, *graph.grouped)} | {*stream.constants}
        behind = [Point(own.name, own.node, own.node, own.layout) for own in stream.writers]
        behind += [
            Point(name, name, name, graph.layouts[name])
            for name in cut - {own.node for own in stream.writers}
            if name in graph.layouts
        ]
        Tapped(graph, [*(_in_front(read) for read in stream.readers), *behind], self._tap).run(*inputs)
        return self._found.astype(self._dtype), self._rest.astype(self._dtype)

    def _tap(self, point: Point, tensor: torch.Tensor) -> torch.Tensor:
        if point.source != point.node:
            self._pull(point, tensor)
            return tensor
        if point.node not in self._writer:
            return tensor.detach()
        require_apart(point, tensor, self._size)
        leaf = tensor.detach().clone().requires_grad_()
        self._leaves[self._writer[point.node]] = leaf
        return leaf.clone()  # later nodes may change it in place

    def _pull(self, point: Point, tensor: torch.Tensor) -> None:
        """Pull the gradient at a reader's input back to the writers."""
        stream, gradient = self._stream, self._gradients[point.node]
        j = self._reader[point.node]
        if tensor.dtype == torch.float64:
            self._dtype = np.float64
        own = self._summed(gradient * tensor.detach(), point)
        place = slice(*self._graph.offsets[[stream.block, stream.block + 1]])
        self._rest[:, j] = channel_products(self._graph, [(stream.readers[j], own)])[:, place].cpu().numpy()
        before = [t for t, reader in stream.pairs if reader == j and t in self._leaves]
        if not before or not tensor.requires_grad:
            return
        leaves = [self._leaves[t] for t in before]
        found = torch.autograd.grad(tensor, leaves, gradient, retain_graph=True, allow_unused=True)
        for t, leaf, pulled in zip(before, leaves, found, strict=True):
            if pulled is not None:
                score = self._of_block(self._summed(pulled * leaf.detach(), point, stream.writers[t].layout.axis), t)
                self._found[:, self._pair[t, j]] = score
                self._rest[:, j] -= score

    def _summed(self, product: torch.Tensor, point: Point, axis: int | None = None) -> torch.Tensor:
        """The sum over positions: float64, shape (images, entries of the channel axis)."""
        own = (point.layout.axis if axis is None else axis) % product.ndim
        if self._size == 1:
            product = product.movedim(own, 0)[None]
        moved = product.detach().double().movedim(1 if self._size == 1 else own, 1)
        return moved.reshape(*moved.shape[:2], -1).sum(2)

    def _of_block(self, entries: torch.Tensor, writer: int) -> np.ndarray:
        """What a writer's entries say of the block's channels: float64, shape (images, channels)."""
        numbers = self._graph.numbers(self._stream.writers[writer].layout) - self._graph.offsets[self._stream.block]
        inside = (numbers >= 0) & (numbers < self._found.shape[2])
        result = np.zeros((self._size, self._found.shape[2]))
        np.add.at(result.T, numbers[inside], entries.cpu().numpy()[:, inside].T)
        return result
