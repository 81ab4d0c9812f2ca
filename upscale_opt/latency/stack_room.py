"""Room on the interpreter's stack while latencies are measured.

CPython keeps the frames of Python functions on a stack of chunks of 16 KiB. A frame that does not fit into the last
chunk gets a new one from the system, which goes back when that frame ends. The forward method of a traced network is
one function with a local variable per node (DenseNet-121: over a thousand, 8 bytes each): if it happens to end close to
the end of a chunk, every call below it fetches a chunk and gives it back. Which network that hits depends on its number
of nodes and on how deeply nested the code is that calls it, and says nothing about an order. docs/latency.md has
figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

NUM_SLOTS = 65_000
"""Entries of a frame whose chunk has as much room again: 8 bytes each, chunks are powers of two."""


def with_stack_room(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A decorator: frames of everything that the function calls lie in one chunk, up to half a MiB of them.

    The function is called from a frame that claims a stack of `NUM_SLOTS` entries, which it does not use; so CPython
    fetches a chunk of 1 MiB for it (``push_chunk`` in Python/pystate.c), whose other half is left for what follows.
    """

    def roomy(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        return function(*arguments, **options)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=NUM_SLOTS)
    return wraps(function)(roomy)
