"""Random networks that consist of residual streams: many producers are added to a tensor, and many consumers read it.

`check` draws windows for their accesses. In the networks of `random_network` streams are rare.
"""

from __future__ import annotations

import random

from benchmarks.random_networks import elementwise, motifs, shaping
from benchmarks.random_networks.builder import Builder, Value
from benchmarks.random_networks.program import Program

WIDTHS = (8, 6, 12, 5)
BETWEEN = (*elementwise.OPERATORS, *shaping.OPERATORS, motifs.squeeze_and_excitation)
"""Operators that now and then stand between the blocks of a stream."""


def stream_network(source: int | random.Random) -> Program:
    """The network of a seed: a stem, blocks that are added to a stream or begin another one, and heads.

    Parameters
    ----------
    source
        A seed, or a source of randomness.

    Examples
    --------
    >>> stream_network(0) == stream_network(0)
    True
    """
    b = Builder(source if isinstance(source, random.Random) else random.Random(source))
    size = b.pick((4, 5, 6))
    b.add_input("x", (3, size, size))
    x = _producer(b, b.values[-1], b.pick(WIDTHS))
    if b.chance(0.3):
        x = b.emit(b.pick((f"F.max_pool2d({x}, 2)", f"{b.module('nn.AvgPool2d(3, 1, 1)')}({x})")))
    earlier = []
    for _ in range(b.integer(2, 5)):
        if b.chance(0.25):
            earlier.append(x)
        x = _block(b, x)
        if b.chance(0.15) and b.attempt(b.pick(BETWEEN)) and b.values[-1].ndim == 4:
            x = b.values[-1]
    heads = [_head(b, value) for value in (x, *earlier[:2])]
    output = heads[0] if len(heads) == 1 else f"({', '.join(heads)})"
    return b.finish(output, seed=b.integer(0, 2**31 - 1))


def _producer(b: Builder, x: Value, width: int) -> Value:
    """A convolution, often with a normalisation and sometimes with an activation behind it."""
    size = b.pick((1, 3))
    y = b.emit(f"{b.module(f'nn.Conv2d({x.shape[1]}, {width}, {size}, padding={size // 2})')}({x})")
    norms = (*[f"nn.BatchNorm2d({width})"] * 4, f"nn.GroupNorm(1, {width})", f"nn.InstanceNorm2d({width}, affine=True)")
    if b.chance(0.6):
        y = b.emit(f"{b.module(b.pick(norms))}({y})")
    if b.chance(0.3):
        y = b.emit(f"{b.module(f'nn.Conv2d({width}, {width}, 3, padding=1, groups={width})')}({y})")
    return _activated(b, y) if b.chance(0.25) else y


def _activated(b: Builder, x: Value) -> Value:
    """An activation, out of place or in place."""
    kinds = ("nn.ReLU()", "nn.ReLU(inplace=True)", "nn.SiLU()", "nn.Hardswish(inplace=True)", "nn.Sigmoid()")
    forms = (*(f"{b.module(kind)}({x})" for kind in kinds), f"F.relu({x})", f"torch.relu({x})", f"{x}.neg()")
    return b.emit(b.pick(forms))


def _block(b: Builder, x: Value) -> Value:
    """A branch that is added to the stream, or to another branch, which begins a new stream."""
    y = x
    if b.chance(0.4):
        y = b.emit(f"{b.module(f'nn.BatchNorm2d({x.shape[1]})')}({y})")
        y = b.emit(f"F.relu({y})")
    if b.chance(0.7):
        y = _activated(b, _producer(b, y, b.pick(WIDTHS)))
    begins = b.chance(0.3)
    width = b.pick(WIDTHS) if begins else x.shape[1]
    y = _producer(b, y, width)
    other = _producer(b, x, width) if begins else x
    forms = (f"{other} + {y}", f"{y} + {other}", f"torch.add({other}, {y})", f"{y}.add_({other})", f"{other}.add({y})")
    total = b.emit(b.pick(forms))
    return _activated(b, total) if b.chance(0.4) else total


def _head(b: Builder, x: Value) -> Value:
    """A last consumer: a convolution, or a linear layer behind a mean."""
    if b.chance(0.5):
        return b.emit(f"{b.module(f'nn.Conv2d({x.shape[1]}, 4, 1)')}({x})")
    return b.emit(f"{b.module(f'nn.Linear({x.shape[1]}, 4)')}({b.emit(f'{x}.mean((2, 3))')})")
