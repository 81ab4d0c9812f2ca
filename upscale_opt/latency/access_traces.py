"""Runs an export node by node under the profiler: the time in every node's operators, and their copies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import fx
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, record_function

from upscale_opt.capture.regions import unwound
from upscale_opt.errors import ModelError, first_line
from upscale_opt.latency.stack_room import with_stack_room

MOVING = frozenset(
    ("aten::copy_", "aten::index_select", "aten::index", "aten::gather", "aten::take", "aten::cat", "aten::to_mkldnn")
)
"""Operators that move data. Every copy is one of these."""
WRAPPING = frozenset(
    (
        *("aten::contiguous", "aten::clone", "aten::to", "aten::_to_copy", "aten::reshape", "aten::_reshape_copy"),
        *("aten::flatten", "aten::narrow_copy", "aten::to_dense"),
    )
)
"""Operators that may copy by calling one of the above. The copy then gets their name."""
NODE, REFERENCE = "upscale_opt.node ", "upscale_opt.reference "
"""Prefixes of range names: for a node, and for a consumer on a contiguous input."""


@dataclass(frozen=True)
class Copy:
    """One copy in a trace: the operators from the node to the copy, and the entries written (None: unknown)."""

    path: tuple[str, ...]
    seconds: float
    entries: int | None


@dataclass(frozen=True)
class Range:
    """The profiler's results for one node in one pass."""

    seconds: float
    copies: tuple[Copy, ...]


class NodeRunner(fx.Interpreter):
    """Runs a module node by node, each node in a separate profiler range.

    With `references`, every consumer also runs on a contiguous copy of its input, and sizes are recorded.
    """

    def __init__(self, module: fx.GraphModule, consumers: frozenset[str]) -> None:
        super().__init__(module)
        self.consumers = consumers
        self.references = False
        self.inputs: dict[str, torch.Size] = {}
        self.outputs: dict[str, torch.Size] = {}
        self.entry_bytes: dict[str, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node in its range."""
        with record_function(NODE + n.name):
            result = super().run_node(n)
        if not self.references:
            return result
        if isinstance(result, torch.Tensor):
            self.outputs[n.name], self.entry_bytes[n.name] = result.shape, result.element_size()
        if n.name in self.consumers:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            self.inputs[n.name], self.entry_bytes[n.name] = args[0].shape, args[0].element_size()
            dense = args[0].clone()
            with record_function(REFERENCE + n.name):
                getattr(self, n.op)(n.target, (dense, *args[1:]), kwargs)
        return result


@with_stack_room
def profiled_pass(runner: NodeRunner, inputs: tuple[Any, ...], *, references: bool = False) -> dict[str, Range]:
    """Run one pass under the profiler. Returns the results by name of the range."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # silences a log line per start and stop
    device = next((x.device for x in inputs if isinstance(x, torch.Tensor)), torch.device("cpu"))
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    runner.references = references
    with torch.inference_mode(), unwound():
        if references:
            _warm_up(runner, inputs)
        with torch.profiler.profile(activities=activities, record_shapes=references) as profiler:
            runner.run(*inputs)
            if on_cuda:
                torch.cuda.synchronize(device)
    ranges = {}
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CPU and event.name.startswith((NODE, REFERENCE)):
            copies = tuple(copy for child in event.cpu_children for copy in _copies(child, (), on_cuda))
            ranges[event.name] = Range(sum(_seconds(child, on_cuda) for child in event.cpu_children), copies)
    return ranges


def _warm_up(runner: NodeRunner, inputs: tuple[Any, ...]) -> None:
    try:
        runner.run(*inputs)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = first_line(error)
        raise ModelError(f"the export does not run on these inputs ({reason}); use another shape or format") from error


def _seconds(event: Any, on_cuda: bool) -> float:
    """Time of an operator, including all operators that it calls: on the device, or on the CPU."""
    if not on_cuda:
        return float(event.cpu_time_total) / 1e6
    return float(event.self_device_time_total) / 1e6 + sum(_seconds(child, True) for child in event.cpu_children)


def _copies(event: Any, above: tuple[str, ...], on_cuda: bool) -> Iterator[Copy]:
    """The outermost copies in an operator."""
    path = (*above, event.name)
    inner = [copy for child in event.cpu_children for copy in _copies(child, path, on_cuda)]
    if event.name in MOVING:
        shape = event.input_shapes[0] if event.name == "aten::copy_" and event.input_shapes else None
        yield Copy(path, _seconds(event, on_cuda), None if shape is None else prod(shape))
    elif event.name in WRAPPING and inner:
        entries = [copy.entries for copy in inner if copy.entries is not None]
        yield Copy(path, _seconds(event, on_cuda), max(entries, default=None))
    else:
        yield from inner
