"""Room on the interpreter's stack: what is measured does not depend on how deeply nested its caller is."""

import resource
import sys

import pytest
import torch
from torch import nn

from upscale_opt.latency.profiling import profile_interleaved
from upscale_opt.latency.stack_room import with_stack_room

NUM_CALLS = 200


def wide(num_locals):
    """A function with so many local variables that calls another one again and again."""
    names = " = ".join(f"v{i}" for i in range(num_locals))
    space = {}
    exec(f"def function(inner):\n    {names} = None\n    for i in range({NUM_CALLS}): inner()", space)
    return space["function"]


def inner():
    return None


def faults(function, *arguments):
    function(*arguments)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="about CPython's stack")
def test_frames_fetch_no_memory_whatever_the_number_of_local_variables():
    """Without room, some number of local variables ends a chunk: every call below then fetches memory."""
    functions = [wide(n) for n in range(1000, 2100, 4)]
    without = [faults(function, inner) for function in functions]
    assert max(without) >= NUM_CALLS, "what the room is for"
    assert max(with_stack_room(lambda: [faults(function, inner) for function in functions])()) < NUM_CALLS / 10


def test_functions_with_room_are_called_as_before():
    @with_stack_room
    def difference(a, *, b=1):
        """Of two numbers."""
        return a - b

    assert difference(5, b=2) == 3 and difference(5) == 4
    assert difference.__name__ == "difference" and difference.__doc__ == "Of two numbers."
    with pytest.raises(TypeError):
        difference()


class Noting(nn.Module):
    """Notes how much room the chunk has in which it is called: large frames below it fetch no memory."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.functions = [wide(n) for n in range(1000, 2100, 4)]

    def forward(self, x):
        self.found += [faults(function, inner) for function in self.functions]
        return x


def test_latencies_are_measured_with_room():
    module = Noting().eval()
    profile_interleaved({"noting": module}, torch.zeros(1), repeats=2)
    assert module.found and max(module.found) < NUM_CALLS / 10
