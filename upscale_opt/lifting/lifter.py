"""Translates the graph of a program of `torch.export` into a graph that calls modules and functions again."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from upscale_opt.capture.regions import enter, leave, with_statements
from upscale_opt.capture.source_lines import PLACE, Place, is_of_network
from upscale_opt.capture.traced_module import Retracer
from upscale_opt.errors import ModelError
from upscale_opt.lifting.calls import ASSERTIONS, spelled
from upscale_opt.lifting.decomposed import joined
from upscale_opt.lifting.groups import STACK, Call, calls_of, stack_of
from upscale_opt.lifting.signatures import Argument, placed, returned
from upscale_opt.operators.spellings import aten_name

_STATE = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_LINE = re.compile(r'File "(?P<file>[^"]+)", line (?P<number>\d+)')
_VIEWS = ("size", "view", "permute", "t", "transpose", "expand", "numel")
_NUMBERS = (operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg)
_REGIONS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")


@dataclass(frozen=True)
class Lifted:
    """A program as a graph that calls modules.

    Attributes
    ----------
    graph
        The graph.
    places
        Nodes of the input tensors by the text of their place: ``x``, ``x['left']``.
    tensors
        Parameters, buffers and constants that the graph reads, by name.
    """

    graph: fx.Graph
    places: Mapping[str, fx.Node]
    tensors: Mapping[str, torch.Tensor]


class Lifter:
    """Translates one program.

    Parameters
    ----------
    program
        The program.
    arguments
        The parameters of the network's forward.
    module_of
        Returns the module of a path, if it is at hand. Calls of such modules become calls again.
    tensor_named
        Returns the network's parameter, buffer or other tensor of a name; and None if it has none.
    """

    def __init__(
        self,
        program: ExportedProgram,
        arguments: list[Argument],
        module_of: Callable[[str], nn.Module | None],
        tensor_named: Callable[[str], torch.Tensor | None],
    ) -> None:
        self.program, self._arguments = program, arguments
        self._module_of, self._tensor_named = module_of, tensor_named
        self.graph = fx.Graph(tracer_cls=Retracer)
        self.graph.on_generate_code(lambda _: with_statements)
        self._tensors: dict[str, torch.Tensor] = {}
        self._names: dict[fx.Node, str] = {}
        self._read: dict[str, fx.Node] = {}
        self._values: dict[fx.Node, Any] = {}
        self._last_read: Any = None

    def run(self) -> Lifted:
        """Translate the program.

        Raises
        ------
        ModelError
            If the program has parts that have no place in a network: objects, tokens, branches that both are kept.
        """
        leaves, places = placed(self.graph, self._arguments)
        self._last_read = [node for node in self.graph.nodes if node.op == "placeholder"][-1]
        self._enter(leaves)
        self._translate(self.program.graph)
        (end,) = (node for node in self.program.graph.nodes if node.op == "output")
        results = list(end.args[0])
        self._write_back(results)
        specs = self.program.graph_signature.output_specs
        outputs = [own for own, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]
        spec = self.program.call_spec.out_spec
        assert spec is not None
        self.graph.output(returned(self.graph, [self._value(own) for own in outputs], spec))
        self._erase_unused()
        return Lifted(self.graph, places, self._tensors)

    # Inputs and results

    def _enter(self, leaves: list[Any]) -> None:
        nodes = {node.name: node for node in self.program.graph.nodes if node.op == "placeholder"}
        waiting = iter(leaves)
        for spec in self.program.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind is InputKind.USER_INPUT:
                self._values[node] = own = next(waiting)
                if isinstance(own, fx.Node):
                    own.meta["val"] = node.meta.get("val")
            elif spec.kind in _STATE:
                assert spec.target is not None
                self._names[node] = self._named(spec.target)
            else:
                raise ModelError(
                    f"the program of torch.export has the {spec.kind.name.lower()} {spec.target}; "
                    "only tensors can be lifted"
                )

    def _named(self, target: str) -> str:
        """Remember a parameter, buffer or constant of the program, and return the name that it gets."""
        own = self._tensor_named(target)
        if own is not None:
            self._tensors[target] = own
            return target
        constant = {**self.program.constants, **self.program.state_dict}[target]
        if not isinstance(constant, torch.Tensor):
            raise ModelError(f"the program of torch.export has the object {target}; only tensors can be lifted")
        name = f"_tensor_constant{sum(own.startswith('_tensor_constant') for own in self._tensors)}"
        while self._tensor_named(name) is not None:
            name += "_"
        self._tensors[name] = constant
        return name

    def _write_back(self, results: list[Any]) -> None:
        """Write new values into buffers, parameters and inputs that the program changes."""
        for own, spec in zip(results, self.program.graph_signature.output_specs, strict=True):
            kind = spec.kind.name
            if kind == "USER_OUTPUT":
                continue
            if kind not in ("BUFFER_MUTATION", "PARAMETER_MUTATION", "USER_INPUT_MUTATION"):
                raise ModelError(f"the program of torch.export returns a {kind.lower()}, which no network does")
            if kind == "USER_INPUT_MUTATION":
                (node,) = (x for x in self.program.graph.nodes if x.op == "placeholder" and x.name == spec.target)
                changed = self._values[node]
            else:
                assert spec.target is not None
                changed = self._attribute(spec.target)
            self.graph.call_method("copy_", (changed, self._value(own)))

    def _value(self, value: Any) -> Any:
        """Return an argument of the program as an argument of the new graph."""
        return fx.node.map_aggregate(value, lambda x: self._result(x) if isinstance(x, fx.Node) else x)

    def _result(self, node: fx.Node) -> Any:
        if node in self._names:
            read = self._attribute(self._names[node])
            read.meta.setdefault("val", node.meta.get("val"))
            return read
        return self._values[node]

    def _attribute(self, name: str) -> fx.Node:
        if name not in self._read:
            with self.graph.inserting_after(self._last_read):
                self._read[name] = self._last_read = self.graph.get_attr(name)
        return self._read[name]

    def tensor_of(self, node: fx.Node) -> torch.Tensor | None:
        """Return the parameter or buffer that a node of the program stands for. None for other nodes."""
        name = self._names.get(node)
        return None if name is None else self._tensors[name]

    # Nodes

    def _translate(self, graph: fx.Graph) -> None:
        calls = calls_of(graph, self._module_of, self.tensor_of)
        for node in graph.nodes:
            call = calls.get(node)
            if node.op in ("placeholder", "output", "get_attr"):
                continue
            if call is None:
                before = next(iter(reversed(self.graph.nodes)), None)
                self._values[node] = self._translated(node)
                self._describe(node, before)
            elif node is call.result:
                before = next(iter(reversed(self.graph.nodes)), None)
                self._values[node] = self._called(call)
                self._describe(node, before)
            else:
                self._skip(node)

    def _skip(self, node: fx.Node) -> None:
        """Pass over a node inside of a call. A buffer that it writes into may be used by a later call."""
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node) and first in self._names and (aten_name(node.target) or "").endswith("_"):
            self._names[node] = self._names[first]

    def _called(self, call: Call) -> fx.Node:
        arguments = tuple(self._value(own) for own in call.arguments)
        named: dict[str, Any] = {"need_weights": False} if isinstance(call.module, nn.MultiheadAttention) else {}
        node = self.graph.call_module(call.path, arguments, named)
        node.meta[STACK] = {call.path: (call.path, type(call.module))}
        return self.graph.call_function(operator.getitem, (node, 0)) if call.is_first_of_several else node

    def _translated(self, node: fx.Node) -> Any:
        name = aten_name(node.target)
        if name is not None and name.startswith(ASSERTIONS):
            return None
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            return self._inlined(node)
        args, kwargs = self._value(node.args), self._value(node.kwargs)
        if not isinstance(node.target, torch._ops.OpOverload):
            if node.target is operator.getitem and isinstance(args[0], tuple):
                return args[0][args[1]]
            return self.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        parts = joined(self.graph, node, args, kwargs)
        if parts is not None:
            return parts[0] if len(parts) == 1 else parts
        return spelled(self.graph, node.target, args, kwargs)

    def _inlined(self, node: fx.Node) -> Any:
        """Translate a region with another gradient mode, or in another precision."""
        target: Any = node.target
        name = str(target.name())
        if name not in _REGIONS:
            raise ModelError(f"the program of torch.export has {name}; only tensors and plain operators can be lifted")
        number = 1 if name == _REGIONS[0] else 4
        settings, (inside, *given) = node.args[:number], node.args[number:]
        if name == _REGIONS[0]:
            kind: tuple[Any, ...] = ("enable_grad" if settings[0] else "no_grad",)
        else:
            kind = ("autocast", *settings)
        module = self.program.graph_module.get_submodule(str(inside.target))  # type: ignore[union-attr]
        assert isinstance(module, fx.GraphModule)
        entering = [own for own in module.graph.nodes if own.op == "placeholder"]
        for own, x in zip(entering, given, strict=True):
            if isinstance(x, fx.Node) and x in self._names:
                self._names[own] = self._names[x]
            else:
                self._values[own] = self._value(x)
        region = self.graph.call_function(enter, kind)
        self._translate(module.graph)
        self.graph.call_function(leave, (region,))
        (end,) = (own for own in module.graph.nodes if own.op == "output")
        result = self._value(end.args[0])
        return tuple(result) if isinstance(result, (tuple, list)) else result

    def _describe(self, node: fx.Node, before: fx.Node | None) -> None:
        """Tell the new nodes where they come from, and what they compute."""
        made: list[fx.Node] = []
        for own in reversed(self.graph.nodes):
            if own is before:
                break
            made.append(own)
        place = _place_of(node)
        stack = {key: (path, kind) for key, path, kind in stack_of(node)}
        for own in made:
            own.meta.setdefault(PLACE, place)
            own.meta.setdefault(STACK, stack)
        result = self._values.get(node)
        if isinstance(result, fx.Node):
            result.meta.setdefault("val", node.meta.get("val"))
        elif isinstance(result, tuple) and result and isinstance(result[0], fx.Node):
            values = node.meta.get("val")
            result[0].meta.setdefault("val", values[0] if isinstance(values, (tuple, list)) else None)

    def _erase_unused(self) -> None:
        """Erase sizes and numbers that nothing uses, parts of results, and views."""
        for node in reversed(list(self.graph.nodes)):
            own = node.target in _VIEWS if node.op == "call_method" else node.target in _NUMBERS
            if not node.users and (own or node.op == "get_attr"):
                self.graph.erase_node(node)


def _place_of(node: fx.Node) -> Place | None:
    """Return the line of the network's code that has made a node of a program."""
    lines = _LINE.findall(str(node.meta.get("stack_trace") or ""))
    of_network = [Place(file, int(number)) for file, number in lines if is_of_network(file)]
    return of_network[-1] if of_network else None
