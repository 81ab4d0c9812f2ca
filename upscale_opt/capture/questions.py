"""A tracer that answers Python's questions: with values of buffers, and with sizes for the example inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from upscale_opt.capture.examples import Example, arguments_by_name, device_of_all, traced_argument
from upscale_opt.capture.factories import PACKING
from upscale_opt.capture.known_values import MEASURES, KnownValues, UnknownValueError
from upscale_opt.capture.node_runs import NodeRun, keeps_shape_surely
from upscale_opt.capture.origins import Origins
from upscale_opt.capture.recording import RecordingTracer
from upscale_opt.capture.settled import CONDITION, LENGTH, NUMBER, Settled, is_size
from upscale_opt.capture.source_lines import PLACE, current_instruction, current_place


class AnsweringTracer(RecordingTracer):
    """A tracer that knows the values of buffers, and the example inputs if there are any.

    Parameters
    ----------
    inputs
        The example inputs. None if there are none: then sizes of tensors stay unknown, and no argument is a constant.
    """

    known: KnownValues
    _origins: Origins
    _constants: dict[str, torch.Tensor]

    def __init__(self, inputs: tuple[Any, ...] | None) -> None:
        super().__init__(autowrap_functions=PACKING)
        self.used: dict[str, None] = {}
        self.settled: list[Settled] = []
        self.apart = False
        self.example: Example | None = None
        self._left_out: frozenset[str] = frozenset()
        self._inputs = inputs
        self._parsed: tuple[tuple[int, int] | None, tuple[Settled, ...]] | None = None

    def tensor_of(self, name: str) -> Any:
        """Return a tensor of the network, or a constant of its code, by name."""
        raise NotImplementedError

    def take_example(self, root: nn.Module) -> None:
        """Prepare to answer questions about sizes."""
        if self._inputs is None:
            return
        arguments, self._left_out = arguments_by_name(root, self._inputs)
        device = device_of_all(root, self._inputs)
        run = NodeRun(self._module, self.tensor_of, self.known, device, keeps_shape_surely)
        self.example = Example(run, arguments, self._apart)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Prepare the call of the network. Constants among the arguments are given as they are."""
        forward, inputs = super().create_args_for_root(root_fn, is_module, concrete_args)
        if self.example is None:
            return forward, inputs
        arguments = self.example.arguments
        opened = []
        for own in inputs:
            name = str(own.node.target).lstrip("*") if isinstance(own, fx.Proxy) else None
            if name in arguments:
                own = traced_argument(own, arguments[name], left_out=name in self._left_out)
            opened.append(own)
        return forward, opened

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Create a node as torch.fx does. Remember its source line, and track its value if it is known."""
        node = super().create_node(*args, **kwargs)
        node.meta[PLACE] = current_place()
        self.known.add(node)
        if self._parsed and self._parsed[0] == current_instruction():
            # The call itself has only looked whether its argument is a number. It gets the node.
            self.settled[:] = [own for own in self.settled if own not in self._parsed[1]]
        self._parsed = None
        return node

    def _module(self, path: str) -> nn.Module:
        return self.functions.modules[path] if path in self.functions.modules else self.root.get_submodule(path)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Let modules and operators run as they do without a trace."""
        gradients = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        self.apart, before = True, self.apart
        try:
            with self.regions.paused(), self._origins.paused(), torch.device("meta"):
                yield
        finally:
            self.apart = before
            torch._C._set_grad_enabled(gradients)

    # Questions

    def knows(self, node: fx.Node) -> bool:
        """Whether a node is computed only from buffers."""
        return self.known.has(node)

    def value_of(self, node: fx.Node, kind: str = NUMBER) -> Any:
        """Return the value of a node, or its length. It becomes part of the code.

        Raises
        ------
        TraceError, NeedsValueError
            If the value depends on the values of the network's inputs or parameters.
        """
        if self.known.has(node) or self.example is None:
            try:
                value = self.known.value(node)
            except UnknownValueError as error:
                raise TraceError(f"Python needs a value in forward that is not known: {error}") from error
            self._use(self.known.sources_of_shape(node) if kind == LENGTH else self.known.sources(node))
            return len(value) if kind == LENGTH else value
        value = self.example.size(node) if kind != LENGTH else self._measured(node)
        if isinstance(value, torch.Tensor):
            raise self.example.needs_value(node)
        own = Settled(kind, value, node.name, current_place())
        if not any((own.kind, own.node) == (other.kind, other.node) for other in self.settled):
            self.settled.append(own)
            instruction = current_instruction()
            before = self._parsed[1] if self._parsed and self._parsed[0] == instruction else ()
            self._parsed = (instruction, (*before, own))
        return value

    def settle_again(self, node: fx.Node, value: Any, is_length: bool, place: str) -> None:
        """Take over what an earlier trace has settled, of a network that is an export or a lifted program."""
        kind = LENGTH if is_length else CONDITION if isinstance(value, bool) else NUMBER
        self.settled.append(Settled(kind, value, node.name, place))

    def _measured(self, node: fx.Node) -> int:
        assert self.example is not None
        value = self.example.value(node)
        if not isinstance(value, (tuple, list, dict)) or is_size(value):
            value = self.example.size(node)
        return len(value)

    def is_asked(self, node: fx.Node) -> bool:
        """Whether a node is a size or a type, so that texts and dictionaries may need its value."""
        if self.known.has(node) or self.example is None:
            return False
        try:
            value = self.example.size(node)
        except Exception:  # Python's own text of the proxy will do
            return False
        return value is not None and not isinstance(value, torch.Tensor)

    def type_of(self, node: fx.Node) -> type | None:
        """Return the type of a node's value. None if it is not known."""
        if self.example is None:
            return None
        try:
            return type(self.example.value(node))
        except Exception:  # then isinstance sees the proxy
            return None

    def keys_of(self, node: fx.Node) -> list[Any] | None:
        """Return the keys of a dictionary that a module returns. None for other nodes."""
        if self.example is None or self.known.has(node):
            return None
        try:
            value = self.example.value(node)
        except Exception:  # then whoever asks for the value itself gets the error
            return None
        return list(value) if isinstance(value, dict) else None

    def measure(self, node: fx.Node, name: str) -> tuple[bool, Any]:
        """Return whether a size attribute or method of a tensor is known, and if so, its value."""
        if node.op == "get_attr":
            return True, getattr(self.tensor_of(str(node.target)), name)
        if name not in MEASURES or not self.knows(node) or not isinstance(self.known.value(node), torch.Tensor):
            return False, None
        self._use(self.known.sources_of_shape(node))
        return True, getattr(self.known.value(node), name)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Evaluate a condition."""
        return bool(self.value_of(obj.node, CONDITION)) if self._answers(obj.node) else super().to_bool(obj)

    def iter(self, obj: Any) -> Iterator[Any]:
        """Iterate over a tensor, a tuple, or the keys of a dictionary."""
        if not self._answers(obj.node):
            return super().iter(obj)
        keys = None if self.known.has(obj.node) else self.keys_of(obj.node)
        return iter(keys) if keys is not None else (obj[i] for i in range(self.value_of(obj.node, LENGTH)))

    def _answers(self, node: fx.Node) -> bool:
        return self.example is not None or self.knows(node)

    def _use(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._constants:
                self.used[name] = None
            else:
                self._use(self._origins.of(self._constants[name]))
