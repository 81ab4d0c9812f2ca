"""Traces a network to an fx graph. Buffers stay buffers, and only modules that cannot be traced are kept whole.

torch.fx computes with buffers while it traces, so their values become constants of the code. This tracer records
reads of buffers, as it does for parameters. If that fails in a module, the tracer uses the values of this module's
buffers, as torch.fx does. If that fails, too, the module becomes one operator without a rule.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.utils._pytree import tree_leaves, tree_map

from upscale_opt.capture.attempts import NETWORK, BeginAgainError, Frame, Lessons, Point, Way
from upscale_opt.capture.custom_functions import CustomFunction, attached
from upscale_opt.capture.factories import PACKING, recorded_factories
from upscale_opt.capture.hooks import has_backward_hooks
from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.opened_attention import COMPOSED, attention, may_be_opened
from upscale_opt.capture.origins import Origins, all_tensors, names_of_tensors
from upscale_opt.capture.proxies import Untraceable
from upscale_opt.capture.questions import AnsweringTracer
from upscale_opt.capture.settled import NeedsValueError, Settled
from upscale_opt.capture.shared_memory import writes_into
from upscale_opt.capture.traced_module import Retracer, TracedModule, keep_persistence
from upscale_opt.capture.value_proxies import ValueProxy, assignments_to_buffers
from upscale_opt.models.preservation import Preservation
from upscale_opt.models.snapshots import Snapshot
from upscale_opt.modules.matrix_convolution import MatrixConv2d
from upscale_opt.modules.selections import Gather

REASON = "why it is not traced into"
"""Key in a node's ``meta``."""


@dataclass(frozen=True, eq=False)
class Tracing:
    """The result of `traced`.

    Attributes
    ----------
    module
        The traced network. It shares the submodules of the network.
    known
        Values of the nodes that are computed only from buffers.
    used
        Names of the buffers and other tensors whose values became part of the code, in the order of their use.
    settled
        Values that were taken from the example inputs, in the order of their use.
    """

    module: fx.GraphModule
    known: KnownValues
    used: tuple[str, ...]
    settled: tuple[Settled, ...]


def traced(model: nn.Module, state: Preservation, inputs: tuple[Any, ...] | None = None) -> Tracing:
    """Trace a network.

    Parameters
    ----------
    model
        The network.
    state
        State of the network before the trace. A trace may change the network; the caller must restore it.
    inputs
        The example inputs. They settle what Python asks about sizes and arguments. Without them, such code cannot be
        traced.
    """
    lessons = Lessons()
    while True:
        tracer = _Tracer(state, lessons, inputs)
        try:
            graph = tracer.trace(model)
            return Tracing(tracer.module_of(model, graph), tracer.known, tuple(tracer.used), tuple(tracer.settled))
        except BeginAgainError:
            pass
        except Exception:
            if not tracer.may_read_values:
                raise
            lessons.ways[NETWORK] = Way.BY_VALUE
        state.restore()


class _Tracer(AnsweringTracer):
    """A torch.fx tracer that sets no attributes on the network, and keeps only untraceable modules whole.

    Parameters
    ----------
    state
        State of the network before the trace.
    lessons
        Results of earlier attempts. This attempt adds its own.
    inputs
        The example inputs.
    """

    looks_behind = True
    """Trace through what an export adds (`held`, `ModeSwitch`), as in the original network. Pickles keep it."""

    def __init__(self, state: Preservation, lessons: Lessons, inputs: tuple[Any, ...] | None) -> None:
        super().__init__(inputs)
        self._state = state
        self._lessons = lessons
        self._frames = [Frame(lessons.ways.get(NETWORK, Way.TRACED))]
        self._left_alone: set[str] = set()
        self._proxies: dict[str, fx.Proxy] = {}
        self._assigned: dict[str, fx.Proxy] = {}
        self._constants: dict[str, torch.Tensor] = {}
        self._spare: list[fx.Node] = []

    @property
    def may_read_values(self) -> bool:
        """Whether another attempt makes sense in which the network's own buffers are used by their values."""
        return self._frames[0].way is Way.TRACED and self._frames[0].has_buffers

    def trace(self, root: Any, concrete_args: Any = None) -> fx.Graph:
        """Trace the network, as the method of torch.fx does."""
        self.known = KnownValues(self.tensor_of)
        self._tensors = dict(all_tensors(root)) | dict(root.named_parameters(remove_duplicate=False))
        self._names = names_of_tensors(root)
        self._parameters = {id(tensor): name for name, tensor in root.named_parameters()}
        self._buffers = {id(tensor): name for name, tensor in root.named_buffers()}
        self._origins = Origins(self._names, self._use)
        self.root = root
        self.take_example(root)
        with self._origins, assignments_to_buffers(self._assign), recorded_factories():
            graph = super().trace(root, concrete_args)
        for node in self._spare:
            if not node._erased and not node.users:
                graph.erase_node(node)
        for node in graph.nodes:
            if node.target in PACKING:
                node.meta.pop("is_wrapped", None)  # else the generated code wraps a name that it does not have
        self._write_back(graph)
        self._keep_used(graph)
        return graph

    def module_of(self, model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
        """Return the traced network as a module. Its state_dict omits the same buffers as the network's."""
        graph._tracer_cls = Retracer
        vars(model).update(self._constants)  # torch.fx looks for them here
        try:
            with attached(model, self.functions.modules):
                module = TracedModule(model, graph)
        finally:
            for name in self._constants:
                del vars(model)[name]
        keep_persistence(model, module)
        return module

    def tensor_of(self, name: str) -> Any:
        """Return a tensor of the network, or a constant of its code, by name."""
        return self._constants[name] if name in self._constants else self._tensors[name]

    # Modules

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Modules of torch.nn and of exports are leaf modules, and so are modules with backward hooks."""
        if isinstance(m, (Gather, MatrixConv2d, CustomFunction)) or has_backward_hooks(m):
            return True
        return type(m) not in COMPOSED and not self._opens(m) and super().is_leaf_module(m, module_qualified_name)

    def _opens(self, m: nn.Module) -> bool:
        return self.example is not None and may_be_opened(m)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace into a module. If that fails, use its buffers by value. If that fails, too, keep it as one node."""
        if self.apart or self._made_in_forward(m):
            return forward(*args, **kwargs)
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            self._require_own_buffers(m)
            return super().call_module(m, forward, args, kwargs)
        if self._opens(m):
            example = self.example
            assert example is not None
            forward = functools.partial(attention, m, lambda own: example.value(own.node), self._spare)
        call = (path, self.num_calls.get(path, 0))
        given = Snapshot([args, kwargs])
        while (way := self._lessons.ways.get(call, Way.TRACED)) is not Way.WHOLE:
            point, frame = self._point(), Frame(way)
            # A class that failed before will probably fail again: remember the state that it may change.
            before = Snapshot([self.root]) if type(m) in self._lessons.failing else None
            self._frames.append(frame)
            try:
                given_now = self._by_value((args, kwargs)) if way is Way.BY_VALUE else (args, kwargs)
                with self.regions.restored():
                    return self._returned(super().call_module(m, forward, *given_now))
            except Exception as error:
                self._return_to(point)
                if given.changed():
                    # The module changes its arguments. Kept as one node, it would change other objects.
                    given.restore()
                    raise
                by_value = way is Way.TRACED and (frame.has_buffers or self._has_known((args, kwargs)))
                self._lessons.ways[call] = Way.BY_VALUE if by_value else Way.WHOLE
                self._lessons.failing.add(type(m))
                if isinstance(error, Untraceable):
                    word = ", which needs" if isinstance(error, NeedsValueError) else " with"
                    self._lessons.reasons[call] = f"{type(m).__name__}{word} {error}"
                self._undo(before, point)
            finally:
                self._frames.pop()
        self._require_own_buffers(m)
        self.num_calls[path] = call[1] + 1
        whole = self.create_proxy("call_module", path, args, kwargs)
        if call in self._lessons.reasons:
            whole.node.meta[REASON] = self._lessons.reasons[call]
        # The module may change its buffers, so from now on they are read again.
        buffers = [self._buffers[id(tensor)] for tensor in m.buffers() if id(tensor) in self._buffers]
        self.known.lose(buffers)
        for name in buffers:
            self._proxies.pop(name, None)
        self._left_alone.update(name for name in self.tensor_attrs.values() if name.startswith(f"{path}."))
        return whole

    def _made_in_forward(self, m: nn.Module) -> bool:
        """Whether a module is none of the network's, and has no tensors: ``nn.ReLU()(x)``. It is traced into."""
        if m in (self.submodule_paths or {}):
            return False
        if any(True for _ in itertools.chain(m.parameters(), m.buffers())):
            raise TraceError(
                f"a {type(m).__name__} is called that is no submodule; assign it to the module, or put it into an "
                "nn.ModuleList instead of a list"
            )
        return True

    def _undo(self, before: Snapshot | None, point: Point) -> None:
        """Undo the changes of a failed attempt to the network. Begin again if there is no snapshot."""
        if before is not None and self._state.num_overwritten == point.num_overwritten:
            before.restore()
        elif self._state.changed():
            raise BeginAgainError

    def _require_own_buffers(self, m: nn.Module) -> None:
        """Refuse to keep a module whole if forward has replaced one of its buffers.

        The trace writes the new value into the buffer only at the end of forward, after the module has read it.
        """
        replaced = [self._buffers[id(tensor)] for tensor in m.buffers() if id(tensor) in self._buffers]
        for name in replaced:
            if name in self._assigned:
                raise TraceError(f"the buffer {name!r} is replaced in forward before its module is called")

    def _point(self) -> Point:
        return Point(
            next(iter(reversed(self.graph.nodes))),
            dict(self.module_stack),
            dict(self.num_calls),
            len(self._constants),
            self._state.num_overwritten,
            self.known.lost,
            dict(self._assigned),
            dict(self._proxies),
            dict(self.used),
            tuple(self.settled),
        )

    def _return_to(self, point: Point) -> None:
        """Undo all changes of a failed attempt to the trace. torch.fx does not do this."""
        erased = []
        for node in reversed(self.graph.nodes):
            if node is point.last:
                break
            self.graph.erase_node(node)
            erased.append(node)
        self.known.forget(erased, point.lost)
        self.settled[:] = point.settled
        if self.example is not None:
            self.example.forget(erased)
        for name in list(self._constants)[point.num_constants :]:
            del self.tensor_attrs[self._constants.pop(name)]
        states: tuple[tuple[Any, Any], ...] = (
            (self.module_stack, point.stack),
            (self.num_calls, point.calls),
            (self._assigned, point.assigned),
            (self._proxies, point.proxies),
            (self.used, point.used),
        )
        for own, before in states:
            own.clear()
            own.update(before)

    # Buffers and parameters

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Record each parameter and buffer once. In a frame with ``BY_VALUE``, return the buffer itself."""
        if self.apart:
            return attr_val
        self._proxies = parameter_proxy_cache
        if not isinstance(attr_val, torch.Tensor):
            return attr_val
        name = self._parameters.get(id(attr_val))
        if name is None:
            name = self._buffers.get(id(attr_val))
            if name is None:
                return attr_val
            self._frames[-1].has_buffers = True
            if self._frames[-1].way is Way.BY_VALUE:
                if name in self.known.lost or name in self._assigned:
                    raise TraceError(f"what the buffer {name!r} holds at this point is not known")
                return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a node's result."""
        return ValueProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """Create an argument as torch.fx does, but do not store constants of the code as attributes of the network."""
        if not isinstance(a, torch.Tensor) or isinstance(a, nn.Parameter):
            return super().create_arg(a)
        name = self._buffers.get(id(a)) or self.tensor_attrs.get(a)
        if name in self._left_alone:
            raise TraceError(f"what {name!r} holds at this point is not known")
        if not name:
            numbers = itertools.count(len(self._constants))
            name = next(own for i in numbers if not hasattr(self.root, own := f"_tensor_constant{i}"))
            self.tensor_attrs[a] = name
            self._constants[name] = a
            self._use(self._origins.of(a))
        return self.create_node("get_attr", name, (), {})

    def _has_known(self, values: Any) -> bool:
        return any(self.knows(x.node) for x in tree_leaves(values) if isinstance(x, fx.Proxy))

    def _returned(self, result: Any) -> Any:
        """Return a module's result in the form that the frame of its caller needs."""
        caller = self._frames[-2]
        if not self._has_known(result):
            return result
        caller.has_buffers = True
        return self._by_value(result) if caller.way is Way.BY_VALUE else result

    def _by_value(self, values: Any) -> Any:
        """Replace proxies whose values are known by these values."""

        def own(x: Any) -> Any:
            if isinstance(x, fx.Proxy) and self.knows(x.node):
                value = self.known.value(x.node)
                self._origins.remember(value, self.known.sources(x.node))
                return value
            return x

        return tree_map(own, values)

    # Values

    def _keep_used(self, graph: fx.Graph) -> None:
        """Keep all buffers whose values were used in the traced network, even if no node reads them."""
        read = {node.target for node in graph.nodes if node.op == "get_attr"}
        end = next(iter(reversed(graph.nodes)))
        for name in [name for name in self._buffers.values() if name in self.used and name not in read]:
            with graph.inserting_before(end):
                graph.get_attr(name)

    # Buffers that forward replaces

    def _assign(self, module: nn.Module, name: str, value: fx.Proxy) -> None:
        """Record ``self.buffer = value``. From now on, reads of the buffer give this value."""
        before = module._buffers[name]
        qualified = self._buffers.get(id(before))
        if qualified is None or sum(1 for own in self.root.modules() for b in own._buffers.values() if b is before) > 1:
            raise TraceError(f"the buffer {name!r} is replaced in forward")
        if writes_into(value.node, qualified):
            return  # self.buffer += 1
        self._assigned[qualified] = value
        self._proxies[qualified] = value

    def _write_back(self, graph: fx.Graph) -> None:
        """Write new values into replaced buffers at the end of a call. Earlier reads get a copy of the old value."""
        end = next(iter(reversed(graph.nodes)))
        for name, value in self._assigned.items():
            reads = [node for node in graph.nodes if node.op == "get_attr" and node.target == name]
            for read in reads:
                with graph.inserting_after(read):
                    copied = graph.call_method("clone", (read,))
                read.replace_all_uses_with(copied, delete_user_cb=lambda user, own=copied: user is not own)
                self.known.add(copied)
            with graph.inserting_before(end):
                final = value.node
                graph.call_method("copy_", (graph.get_attr(name), final))
