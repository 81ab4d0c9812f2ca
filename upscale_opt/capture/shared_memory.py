"""Aliasing in a traced model: which tensors share memory, and which nodes write into it in place.

Only `written_by` decides what a node writes into, and only `Memory` decides which tensors share memory. Both use
torch's schemas and the names of operators. An unknown operator is assumed to write into all of its inputs, and to
return any of them.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import fx, nn

from upscale_opt.capture.argument_names import arguments_of, writes_and_aliases
from upscale_opt.capture.custom_functions import CustomFunction
from upscale_opt.capture.hooks import has_foreign_hooks

_IN_PLACE = (
    *(operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.ifloordiv),
    *(operator.imod, operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift),
    operator.setitem,
)
_DUNDERS = ("__idiv__", *(f"__{function.__name__}__" for function in _IN_PLACE))
_FRESH = (
    *(operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.floordiv, operator.mod),
    *(operator.neg, operator.matmul, operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
    *(torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.neg, torch.matmul),
    *(torch.cat, torch.concat, torch.concatenate, torch.stack, torch.clone),
    *("add", "sub", "mul", "div", "pow", "neg", "matmul", "clone"),
)
_WRITES_UNSAID = ("batch_norm", "instance_norm")
"""Operators that write into running statistics, while their schemas do not declare it."""
_COMPUTING = (nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd, nn.Linear)
_KNOWN = ("torch", "torchvision", "upscale_opt", "math", "builtins", "_operator")
"""Packages whose functions and modules write only into arguments for which they declare it."""


class Memory:
    """The memory of the tensors of a traced model: aliases and writes, as far as they are known.

    Parameters
    ----------
    module
        The traced model.
    computing
        Names of further nodes that are known to compute new tensors, without aliases.
    """

    def __init__(self, module: fx.GraphModule, computing: Collection[str] = ()) -> None:
        self._nodes = list(module.graph.nodes)
        self._place = {node.name: i for i, node in enumerate(self._nodes)}
        self._roots: dict[str, frozenset[str]] = {}
        self._writes: list[tuple[int, frozenset[str]]] = []
        for i, node in enumerate(self._nodes):
            shared = [] if node.name in computing else _aliased_by(module, node)
            roots = frozenset[str]().union(*(self._roots[x.name] for x in shared))
            self._roots[node.name] = roots or frozenset([node.name])
            written = [self._roots[x.name] for x in written_by(module, node)]
            self._writes += [(i, own) for own in written]

    def roots(self, node: fx.Node) -> frozenset[str]:
        """Return the names of the nodes whose memory a node's tensor may use, each the first node with this memory.

        The tensor may be a view of a part of it.
        """
        return self._roots[node.name]

    def share(self, first: fx.Node, second: fx.Node) -> bool:
        """Whether two tensors may share memory."""
        return not self.roots(first).isdisjoint(self.roots(second))

    def is_overwritten(self, node: fx.Node) -> bool:
        """Whether any node may write into the memory of `node`."""
        return any(not own.isdisjoint(self.roots(node)) for _, own in self._writes)

    def is_overwritten_after(self, node: fx.Node, moment: fx.Node) -> bool:
        """Whether a node after `moment` may write into the memory of `node`."""
        now = self._place[moment.name]
        return any(i > now and not own.isdisjoint(self.roots(node)) for i, own in self._writes)

    def is_seen_after(self, node: fx.Node, moment: fx.Node) -> bool:
        """Whether the memory of `node` may be read after `moment`, other than through the result of `moment`.

        The caller sees writes into inputs. The next call sees writes into parameters and buffers.
        """
        now = self._place[moment.name]
        if any(self._nodes[self._place[root]].op in ("placeholder", "get_attr") for root in self.roots(node)):
            return True
        return any(
            self._place[x.name] < now and self.share(x, node)
            for later in self._nodes[now + 1 :]
            for x in later.all_input_nodes
        )


def written_by(module: fx.GraphModule, node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the nodes whose tensors a node writes into. For an unknown operator these are all its inputs.

    Parameters
    ----------
    module
        The traced model.
    node
        One of its nodes.
    """
    if node.op == "call_module":
        return _written_by_module(module.get_submodule(str(node.target)), node)
    return written_by_call(node)


def written_by_call(node: fx.Node) -> tuple[fx.Node, ...]:
    """Return the same as `written_by`, for a node that calls a function or a method. The graph may be incomplete."""
    if node.op not in ("call_function", "call_method"):
        return ()
    kind = kind_of(node)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    found = _nodes_in(node.kwargs.get("out"))
    schema = writes_and_aliases(node)
    if schema is not None:
        found += _nodes_in(schema[0])
    elif (arguments_of(node) or {}).get("inplace", False) is not False:
        found += _nodes_in(node.args[:1])
    elif not isinstance(kind, str) and not _is_known(kind):
        found += node.all_input_nodes
    if any(own in name for own in _WRITES_UNSAID):
        found += node.all_input_nodes[1:]
    # Methods such as ``add_``, ``__iadd__`` and ``__setitem__`` always write into their first argument.
    named = name.endswith("_") and not name.endswith("__")
    if kind in _IN_PLACE or named or kind in _DUNDERS:
        found += _nodes_in(node.args[:1])
    return tuple(dict.fromkeys(found))


def kind_of(node: fx.Node) -> Any:
    """Return the function, or the name of the method, that a node calls. None for other nodes."""
    return node.target if node.op in ("call_function", "call_method") else None


def _written_by_module(called: nn.Module, node: fx.Node) -> tuple[fx.Node, ...]:
    inside = list(called.modules())
    if isinstance(called, CustomFunction) or any(has_foreign_hooks(own) or not _is_known(type(own)) for own in inside):
        return tuple(node.all_input_nodes)
    if getattr(called, "inplace", False) is True or len(inside) > 1:
        changing = any(getattr(own, "inplace", False) is True for own in inside)
        return tuple(_nodes_in(node.args[:1])) if changing else ()
    return ()


def _aliased_by(module: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return the nodes whose memory a node's result may share. Empty if it is known to compute a new tensor."""
    if node.op == "call_module":
        computes = isinstance(module.get_submodule(str(node.target)), _COMPUTING)
        return [] if computes else node.all_input_nodes
    kind = kind_of(node)
    if kind is None or (kind in _FRESH and "out" not in node.kwargs):
        return []
    if kind in _IN_PLACE or kind is operator.getitem:
        return _nodes_in(node.args[:1])
    schema = writes_and_aliases(node)
    return _nodes_in(schema[1]) if schema is not None and schema[1] is not None else node.all_input_nodes


def _is_known(kind: Any) -> bool:
    """Whether a function or class belongs to a package that declares all its writes (`_KNOWN`)."""
    return (getattr(kind, "__module__", None) or "").partition(".")[0] in _KNOWN


def _nodes_in(values: Any) -> list[fx.Node]:
    """Return all nodes in an argument, at any depth."""
    if isinstance(values, fx.Node):
        return [values]
    if isinstance(values, dict):
        return _nodes_in(list(values.values()))
    return [x for value in values for x in _nodes_in(value)] if isinstance(values, (tuple, list)) else []


def writes_into(node: fx.Node, name: str) -> bool:
    """Whether a node reads the attribute of this name, or is the result of an operator that writes into it."""
    while node.op != "get_attr":
        written = written_by_call(node)
        if not written:
            return False
        node = written[0]
    return node.target == name
