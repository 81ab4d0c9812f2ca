"""The example inputs in a trace: which arguments are constants, and the values of sizes for these inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.known_values import UnknownValueError
from upscale_opt.capture.node_runs import BY_VALUE, NodeRun
from upscale_opt.capture.regions import enter, leave
from upscale_opt.capture.settled import NeedsValueError, asked_from, asks_for_memory, asks_for_type, is_size
from upscale_opt.capture.shared_memory import written_by_call
from upscale_opt.capture.source_lines import PLACE
from upscale_opt.models.nested import entries_of, is_record, map_tensors, nested_tensors, rebuilt
from upscale_opt.models.snapshots import Snapshot
from upscale_opt.modules.guards import require_argument, structure_of

_NUMBERS = (int, float, complex)


def arguments_by_name(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the arguments of a network's forward by name, and the names of those that were left out.

    Tensors are on the meta device. Arguments that were left out have their default values.
    """
    bound = inspect.signature(model.forward).bind(*inputs)
    given = frozenset(bound.arguments)
    bound.apply_defaults()
    named = {name: map_tensors(lambda x: x.to("meta"), value) for name, value in bound.arguments.items()}
    return named, frozenset(named) - given


def device_of_all(model: nn.Module, inputs: tuple[Any, ...]) -> torch.device | None:
    """Return the device of all tensors of a network and its inputs. None if there are several."""
    tensors = [*model.parameters(), *model.buffers(), *nested_tensors(inputs)]
    devices = {x.device for x in tensors if not x.is_meta}
    return devices.pop() if len(devices) == 1 else None if devices else torch.device("cpu")


def traced_argument(proxy: fx.Proxy, value: Any, *, left_out: bool) -> Any:
    """Return what a forward gets for an argument during a trace.

    Tensors become proxies, and so do numbers that are given. Other constants stay as they are, and containers keep
    their type. A check of the structure is recorded, so that an export refuses other constants.
    """
    number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
    entries = entries_of(value)
    if entries is None and (isinstance(value, torch.Tensor) or (number and not left_out) or not _is_constant(value)):
        return proxy
    expected = structure_of(value, numbers=left_out and not list(nested_tensors(value)))
    if not (entries is not None and str(proxy.node.target).startswith("*") and not entries):
        require_argument(proxy, expected, str(proxy.node.target).lstrip("*"))
    return _opened(proxy, value, left_out)


def _opened(proxy: Any, value: Any, left_out: bool) -> Any:
    entries = entries_of(value)
    if entries is None:
        number = isinstance(value, _NUMBERS) and not isinstance(value, bool)
        return value if _is_constant(value) and not (number and not left_out) else proxy
    parts = {
        key: _opened(getattr(proxy, key) if is_record(value) else proxy[key], own, left_out)
        for key, own in entries.items()
    }
    return rebuilt(value, parts)


def _is_constant(value: Any) -> bool:
    simple = (bool, str, bytes, type(None), torch.dtype, torch.device, *_NUMBERS)
    return isinstance(value, simple)


class Example:
    """The values of nodes for the example inputs, as far as they depend on sizes and types only.

    Parameters
    ----------
    run
        Computes the nodes.
    arguments
        The arguments of forward by name, with tensors on the meta device.
    apart
        A context in which operators are not recorded.
    """

    def __init__(
        self, run: NodeRun, arguments: dict[str, Any], apart: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.arguments = arguments
        self._run, self._apart = run, apart
        self._errors: dict[fx.Node, Exception] = {}

    def value(self, node: fx.Node) -> Any:
        """Return the result of a node. Tensors in it are on the meta device.

        Raises
        ------
        NeedsValueError
            If it depends on the values of the input.
        """
        with self._apart():
            for own in node.graph.nodes:
                if own not in self._run.values and own not in self._errors:
                    self._compute(own)
                if own is node:
                    break
        if node in self._errors:
            raise self._errors[node]
        return self._run.values[node]

    def size(self, node: fx.Node) -> Any:
        """Return the value of a node if it is computed from sizes and types only; else the tensor.

        Raises
        ------
        NeedsValueError
            If it depends on the values of the input, or on the memory of a tensor.
        """
        value = self.value(node)
        if self._run.is_doubtful(node):
            raise NeedsValueError(self._run.doubtful[node])
        if isinstance(value, torch.Tensor):
            return value
        if not is_size(value):
            raise UnknownValueError(f"{node.name} is of type {type(value).__name__}")
        autocast = any(own.target is enter and own.args[0] == "autocast" for own in node.graph.nodes)
        for own in asked_from(node, self._run.values.get):
            asked = asks_for_memory(own) or ("dtype inside of autocast" if autocast and asks_for_type(own) else None)
            if asked is not None:
                raise NeedsValueError(f"{asked} of a tensor{self.place_of(own)}, which an export may change")
        return value

    def needs_value(self, node: fx.Node) -> NeedsValueError:
        """Return the error about a tensor whose values Python needs."""
        name = self._run.name_of(node)
        return NeedsValueError(f"the value of {name}{self.place_of(node)}, {BY_VALUE}")

    def place_of(self, node: fx.Node) -> str:
        """Return the source line of a node, for messages."""
        place = node.meta.get(PLACE)
        return f" in {place}" if place is not None else ""

    def forget(self, nodes: Iterable[fx.Node]) -> None:
        """Drop the values of nodes that were erased."""
        nodes = list(nodes)
        if any(own in self._run.values and own.op != "get_attr" and written_by_call(own) for own in nodes):
            self._run.forget(list(self._run.values))  # a node may have changed shapes in place
        self._run.forget(nodes)
        for own in nodes:
            self._errors.pop(own, None)

    def _compute(self, node: fx.Node) -> None:
        failed = [x for x in node.all_input_nodes if x in self._errors]
        if failed:
            self._errors[node] = self._errors[failed[0]]
        elif node.target in (enter, leave):
            self._run.values[node] = None  # regions do not change sizes
        else:
            module = self._run.module_of(str(node.target)) if node.op == "call_module" else None
            own = module is not None and not type(module).__module__.startswith("torch.nn")
            before = Snapshot([module]) if own else None
            try:
                self._run.run(node, self.arguments)
            except Exception as error:
                self._errors[node] = error
            if before is not None and before.changed():
                before.restore()  # what a module stores on the meta device must not get into the trace
