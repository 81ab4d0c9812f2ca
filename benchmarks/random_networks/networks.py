"""`random_network`: a pure function from a seed, or from hypothesis' own randomness, to a network and its inputs."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable, Collection

from benchmarks.random_networks import attentions, consumers, contexts, elementwise, motifs, pairs, recurrent, shaping
from benchmarks.random_networks.builder import CHANNELS, Builder, Value
from benchmarks.random_networks.program import Program

Operator = Callable[[Builder], None]

OPERATORS: dict[Operator, int] = {
    **consumers.OPERATORS,
    **elementwise.OPERATORS,
    **shaping.OPERATORS,
    **motifs.OPERATORS,
    **attentions.OPERATORS,
    **contexts.OPERATORS,
    **pairs.OPERATORS,
    **recurrent.OPERATORS,
}
"""Every operator with its relative frequency."""

MAX_OPERATORS = 12


def random_network(source: int | random.Random, *, without: Collection[str] = ()) -> Program:
    """The network of a seed: `Program.build` makes the module, `Program.example_inputs` the inputs.

    Parameters
    ----------
    source
        A seed, or a source of randomness (``hypothesis.strategies.randoms()`` makes one that shrinks).
    without
        Names of operators to leave out. Then a seed makes another network.

    Examples
    --------
    >>> program = random_network(0)
    >>> program == random_network(0)
    True
    >>> program.code.splitlines()[0]
    'class Network(nn.Module):'
    """
    b = Builder(source if isinstance(source, random.Random) else random.Random(source))
    _add_inputs(b)
    b.form = b.pick(("list", "dict")) if b.chance(0.15) else ""
    # Begin with a convolution or linear layer, so that most of the network is behind channels that may move.
    for value in tuple(b.values):
        if b.chance(0.9):
            b.attempt(consumers.convolution if value.ndim > 2 else consumers.linear)
    operators = _weighted(tuple(without))
    for _ in range(b.integer(1, MAX_OPERATORS)):
        b.attempt(b.pick(operators))
        if b.chance(0.25):
            b.attempt(b.pick((consumers.convolution, consumers.linear)))
    return b.finish(_output(b), seed=b.integer(0, 2**31 - 1))


@functools.cache
def _weighted(without: tuple[str, ...]) -> tuple[Operator, ...]:
    return tuple(op for op, weight in OPERATORS.items() if op.__name__ not in without for _ in range(weight))


def _add_inputs(b: Builder) -> None:
    for i in range(b.pick((1, 1, 1, 2, 3))):
        kind = b.integer(0, 11)
        channels = b.pick((3, *CHANNELS))
        size = b.pick((4, 5, 6))
        if kind <= 6:
            b.add_input(f"x{i}", (channels, size, size))
        elif kind <= 8:
            b.add_input(f"x{i}", (channels, size))
        elif kind == 9:
            b.add_input(f"x{i}", (channels,))
        elif kind == 10:
            b.add_input(f"x{i}", (channels, 3, 3, 3))
        else:
            b.add_input(f"x{i}", (size,), high=10)
            b.emit(f"{b.module(f'nn.Embedding(10, {channels})')}(x{i})")


def _output(b: Builder) -> str:
    """The outputs of the network: all unused tensors, most of them behind a consumer, in one of several structures."""
    text = " ".join(step.line.partition(" = ")[2] or step.line for step in b.steps)
    sinks = [value for value in b.values if not re.search(rf"\b{value}\b", text)][-4:]
    outputs = []
    for value in sinks:
        used = b.chance(0.8) and b.attempt(_head(value))
        outputs.append(b.values[-1] if used else value)
    if not outputs:
        outputs = [b.values[-1]]
    listed = ", ".join(outputs)
    forms = (
        *(f"({listed},)", f"[{listed}]", f"{{'out': {outputs[-1]}, 'aux': [{', '.join(outputs[:-1])}]}}"),
        *(f"({outputs[-1]}, ({listed},))", f"({listed}, None)"),
    )
    return outputs[0] if len(outputs) == 1 and b.chance(0.8) else b.pick(forms)


def _head(value: Value) -> Operator:
    def head(b: Builder) -> None:
        """A last consumer, so that the tensor in front of it is not an output, which would pin it."""
        if value.ndim in (3, 4, 5) and b.chance(0.8):
            layer = b.module(f"nn.Conv{value.ndim - 2}d({value.shape[1]}, {b.pick(CHANNELS)}, 1)")
        else:
            layer = b.module(f"nn.Linear({value.shape[-1]}, {b.pick(CHANNELS)})")
        b.emit(f"{layer}({value})")

    return head
