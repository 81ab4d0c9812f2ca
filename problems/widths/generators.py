"""Seeded generators of width problems with the structure of real networks. No time in them was measured.

Times are stepped (devices compute in tiles), noisy, and not monotone (multiples of 32 channels are faster).
Losses are those of channels with log-normal importances, of which the most important are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from problems.conversions import whole_number
from problems.errors import ProblemError
from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork, TimeTable, WidthBlock

_OVERHEAD = 4_000  # nanoseconds: of any work
_NOISE = 0.03  # share: of random deviation of a time
_TILE = 32  # channels: whose multiples are fast
_UNITS = 10**6  # units of loss: of a channel of importance 1


class NetworkBuilder:
    """Collects blocks and works of a network, and makes the tables of its shapes.

    Parameters
    ----------
    grid
        Candidate widths are the multiples of this, and the full width.
    seed
        Seed of all random numbers.
    """

    def __init__(self, grid: int, seed: int) -> None:
        self._grid = whole_number(grid, "grid", least=1)
        self._rng = np.random.default_rng(whole_number(seed, "seed", least=0))
        self.num_blocks = 0
        self._blocks: list[WidthBlock] = []
        self._works: list[TimedWork] = []
        self._tables: list[TimeTable] = []
        self._of_shape: dict[tuple[object, ...], int] = {}

    def block(self, name: str, channels: int, *, prunable: bool = True) -> int:
        """Add a block; returns its index."""
        importance = np.sort(self._rng.lognormal(0, 1.5, channels))
        widths = sorted({*range(self._grid, channels, self._grid), channels}) if prunable else [channels]
        lost = np.concatenate([[0], np.cumsum(importance)])
        factor = _UNITS * float(self._rng.lognormal(0, 0.5))
        losses = tuple(int(factor * lost[channels - w]) for w in widths)
        self._blocks.append(WidthBlock(name, tuple(widths), losses))
        self.num_blocks += 1
        return self.num_blocks - 1

    def work(
        self,
        name: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        pixels: int,
        kernel: int = 1,
        rate: float = 2e-3,
    ) -> None:
        """Add a work that multiplies every input with every output channel, `kernel` times per pixel.

        Without outputs (or inputs) it takes time per channel only, as a depthwise convolution or an addition does.

        Parameters
        ----------
        name
            Its name.
        inputs, outputs
            Indices of blocks, whose widths add up.
        pixels, kernel
            Pixels of the output; multiplications per pixel and pair of channels.
        rate
            Nanoseconds per multiplication.
        """
        read, written = (self._totals(side) for side in (inputs, outputs))
        key = (tuple(read.tolist()), tuple(written.tolist()), pixels, kernel, rate)
        if key not in self._of_shape:
            self._of_shape[key] = len(self._tables)
            self._tables.append(self._table(read, written, rate * pixels * kernel))
        self._works.append(TimedWork(name, tuple(inputs), tuple(outputs), self._of_shape[key]))

    def _totals(self, blocks: Sequence[int]) -> np.ndarray:
        totals = np.zeros(1, dtype=np.int64)
        for b in blocks:
            totals = np.unique(totals[:, None] + np.array(self._blocks[b].widths))
        return totals

    def _table(self, inputs: np.ndarray, outputs: np.ndarray, rate: float) -> TimeTable:
        cost = np.multiply.outer(*(_tiled(own) for own in (inputs, outputs)))
        noise = self._rng.normal(1, _NOISE, cost.shape).clip(0.7, 1.3)
        return TimeTable(
            tuple(inputs.tolist()), tuple(outputs.tolist()), (_OVERHEAD + rate * cost * noise).astype(np.int64)
        )

    def problem(self, speedup: float, name: str) -> WidthProblem:
        """The problem of what was added, with the budget of a speedup. A twentieth of the time is fixed."""
        problem = WidthProblem(tuple(self._blocks), tuple(self._works), tuple(self._tables), 0, 1, 0, name)
        time = problem.evaluate(problem.full_choice).time
        fixed = time // 20
        parts = (problem.blocks, problem.works, problem.tables)
        return WidthProblem(*parts, time, time + fixed, fixed, name).for_speedup(speedup)


def _tiled(widths: np.ndarray) -> np.ndarray:
    """Channels that a device computes: multiples of 8, and less for multiples of `_TILE`. 0 (no side) counts as 1."""
    padded = -(-widths // 8) * 8.0
    return np.where(widths == 0, 1.0, padded * np.where(widths % _TILE == 0, 0.85, 1.0))


def residual_network(
    *,
    stem: int = 64,
    streams: Sequence[int] = (256, 512, 1024, 2048),
    depths: Sequence[int] = (3, 4, 6, 3),
    size: int = 56,
    grid: int = 16,
    speedup: float = 2.0,
    seed: int = 0,
) -> WidthProblem:
    """A network of bottlenecks with residual additions. The defaults have the shape of ResNet-50: 37 blocks.

    Parameters
    ----------
    stem
        Channels of the first stream.
    streams, depths
        Per stage the channels of its stream, and its bottlenecks. Bottlenecks have a quarter of the channels.
    size
        Pixels of a side in the first stage; every stage halves it.
    grid, speedup, seed
        Step of the widths, the target, the seed.

    Raises
    ------
    ProblemError
        If streams and depths differ in number.
    """
    _require_stages(streams, depths)
    net = NetworkBuilder(grid, seed)
    image, stream = net.block("image", 3, prunable=False), net.block("stem", stem)
    net.work("stem", [image], [stream], pixels=4 * size**2, kernel=49)
    for s, (channels, depth) in enumerate(zip(streams, depths)):
        pixels = max(1, size >> s) ** 2
        before, stream = stream, net.block(f"stream{s}", channels)
        net.work(f"{s}.downsample", [before], [stream], pixels=pixels)
        for k in range(depth):
            first, second = (net.block(f"{s}.{k}.{part}", channels // 4) for part in ("first", "second"))
            net.work(f"{s}.{k}.conv1", [stream if k else before], [first], pixels=pixels)
            net.work(f"{s}.{k}.conv2", [first], [second], pixels=pixels, kernel=9)
            net.work(f"{s}.{k}.conv3", [second], [stream], pixels=pixels)
            net.work(f"{s}.{k}.add", [stream], [], pixels=pixels, rate=0.02)
    net.work("classes", [stream], [net.block("classes", 1000, prunable=False)], pixels=1)
    return net.problem(speedup, f"residual-{net.num_blocks}-g{grid}-x{speedup}-s{seed}")


def inverted_network(
    *,
    stem: int = 32,
    streams: Sequence[int] = (16, 24, 32, 64, 96, 160, 320),
    depths: Sequence[int] = (1, 2, 3, 4, 3, 3, 1),
    expansion: int = 6,
    head: int = 1280,
    squeeze: bool = False,
    size: int = 112,
    grid: int = 8,
    speedup: float = 2.0,
    seed: int = 0,
) -> WidthProblem:
    """A network of inverted residual blocks with depthwise convolutions. The defaults have MobileNetV2's shape.

    Parameters
    ----------
    stem, streams, depths, head
        Channels of the first stream, of the stream of each stage, its inverted blocks, and channels of the last layer.
    expansion
        Hidden channels per channel of the stream.
    squeeze
        Whether every hidden block passes through a squeeze-and-excitation, which has a block of its own.
    size
        Pixels of a side in the first stage.
    grid, speedup, seed
        Step of the widths, the target, the seed.

    Raises
    ------
    ProblemError
        If streams and depths differ in number.
    """
    _require_stages(streams, depths)
    net = NetworkBuilder(grid, seed)
    image, stream = net.block("image", 3, prunable=False), net.block("stem", stem)
    net.work("stem", [image], [stream], pixels=size**2, kernel=9)
    for s, (channels, depth) in enumerate(zip(streams, depths)):
        pixels = max(7, size >> min(s, 4)) ** 2
        before, stream = stream, net.block(f"stream{s}", channels)
        for k in range(depth):
            source = stream if k else before
            hidden = net.block(f"{s}.{k}.hidden", expansion * channels)
            net.work(f"{s}.{k}.expand", [source], [hidden], pixels=pixels)
            net.work(f"{s}.{k}.depthwise", [hidden], [], pixels=pixels, kernel=9, rate=0.02)
            if squeeze:
                squeezed = net.block(f"{s}.{k}.squeezed", max(8, channels // 4))
                net.work(f"{s}.{k}.squeeze", [hidden], [squeezed], pixels=1)
                net.work(f"{s}.{k}.excite", [squeezed], [hidden], pixels=1)
            net.work(f"{s}.{k}.project", [hidden], [stream], pixels=pixels)
    last = net.block("head", head)
    net.work("head", [stream], [last], pixels=49)
    net.work("classes", [last], [net.block("classes", 1000, prunable=False)], pixels=1)
    return net.problem(speedup, f"inverted-{net.num_blocks}-g{grid}-x{speedup}-s{seed}")


def dense_network(
    *,
    stem: int = 64,
    growth: int = 32,
    bottleneck: int = 128,
    depths: Sequence[int] = (6, 12, 24, 16),
    size: int = 56,
    grid: int = 8,
    speedup: float = 2.0,
    seed: int = 0,
) -> WidthProblem:
    """A network of growing concatenations: what a layer reads has the summed width of all blocks before it.

    The defaults have the shape of DenseNet-121: 120 blocks that can be pruned.

    Parameters
    ----------
    stem, growth, bottleneck
        Channels of the first block, of what a layer adds, and of its hidden block.
    depths
        Layers per stage. Between two stages a convolution halves the channels.
    size
        Pixels of a side in the first stage.
    grid, speedup, seed
        Step of the widths, the target, the seed.
    """
    net = NetworkBuilder(grid, seed)
    image, first = net.block("image", 3, prunable=False), net.block("stem", stem)
    net.work("stem", [image], [first], pixels=4 * size**2, kernel=49)
    parts, channels = [first], stem
    for s, depth in enumerate(depths):
        pixels = max(1, size >> s) ** 2
        for k in range(depth):
            hidden, grown = net.block(f"{s}.{k}.hidden", bottleneck), net.block(f"{s}.{k}.grown", growth)
            net.work(f"{s}.{k}.norm", parts, [], pixels=pixels, rate=0.02)
            net.work(f"{s}.{k}.conv1", parts, [hidden], pixels=pixels)
            net.work(f"{s}.{k}.conv2", [hidden], [grown], pixels=pixels, kernel=9)
            parts, channels = [*parts, grown], channels + growth
        if s < len(depths) - 1:
            halved = net.block(f"{s}.transition", channels // 2)
            net.work(f"{s}.transition", parts, [halved], pixels=pixels)
            parts, channels = [halved], channels // 2
    net.work("classes", parts, [net.block("classes", 1000, prunable=False)], pixels=1)
    return net.problem(speedup, f"dense-{net.num_blocks}-g{grid}-x{speedup}-s{seed}")


def random_widths(num_blocks: int = 5, num_works: int = 6, *, sums: bool = True, seed: int = 0) -> WidthProblem:
    """A small problem without any structure: random tables and losses with ties and zeros, works with random sides.

    Its budget lies anywhere between below the least time and above the largest, so it may be out of reach.

    Parameters
    ----------
    num_blocks, num_works
        How many; blocks have up to 4 widths.
    sums
        Whether sides may have several blocks, or one twice.
    seed
        Seed.
    """
    rng = np.random.default_rng(seed)
    blocks = []
    for b in range(num_blocks):
        widths = np.sort(rng.choice(np.arange(1, 9), int(rng.integers(1, 5)), replace=False))
        losses = rng.integers(0, int(rng.choice([2, 10, 10**6])), len(widths))
        losses = np.sort(losses)[::-1] if rng.random() < 0.7 else losses
        blocks.append(WidthBlock(f"b{b}", tuple(widths.tolist()), tuple(losses.tolist())))
    shell = WidthProblem(tuple(blocks), (), (), 0, 1)
    works, tables = [], []
    most = 4 if sums else 2
    high = int(rng.choice([3, 30, 10**5]))
    for k in range(num_works):
        sides = [tuple(rng.integers(0, num_blocks, int(rng.integers(0, most))).tolist()) for _ in range(2)]
        inputs, outputs = (shell.attainable(side) for side in sides)
        times = rng.integers(0, high, (len(inputs), len(outputs)))
        if rng.random() < 0.6:
            times = np.sort(np.sort(times, axis=0), axis=1)
        works.append(TimedWork(f"w{k}", sides[0], sides[1], k))
        tables.append(TimeTable(tuple(inputs.tolist()), tuple(outputs.tolist()), times))
    fixed = int(rng.integers(0, high)) if rng.random() < 0.5 else 0
    total = fixed + sum(int(table.nanoseconds.max()) for table in tables)
    budget = int(total * rng.uniform(0, 1.05))
    return WidthProblem(tuple(blocks), tuple(works), tuple(tables), budget, max(1, total), fixed, f"random-s{seed}")


def _require_stages(streams: Sequence[int], depths: Sequence[int]) -> None:
    if len(streams) != len(depths):
        raise ProblemError(f"there are {len(streams)} streams and {len(depths)} depths; give one each per stage")
