"""Reserves room on the interpreter's stack while latencies are measured.

CPython keeps the frames of Python functions on a stack of 16 KiB chunks. If a frame does not fit into the last chunk,
CPython gets a new chunk from the system. The chunk is returned when the frame ends. The forward method of a traced
network is one function with one local variable per node (over a thousand in DenseNet-121, 8 bytes each). Its frame may
end close to the end of a chunk. Then every call below it gets and returns a chunk. Whether this happens depends on the
network's number of nodes and on the depth of the calling code, but not on the order of channels. docs/latency.md has
measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

NUM_SLOTS = 65_000
"""Entries of a frame that leaves as much room again in its chunk: 8 bytes each, and chunks are powers of two."""


def with_stack_room(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A decorator. Frames of everything that the function calls lie in one chunk, up to half a MiB.

    The function is called from a frame that claims a stack of `NUM_SLOTS` entries but does not use it. CPython
    therefore gets a chunk of 1 MiB for it (``push_chunk`` in Python/pystate.c). The other half of the chunk is free for
    later frames.
    """

    def roomy(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        return function(*arguments, **options)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=NUM_SLOTS)
    return wraps(function)(roomy)
