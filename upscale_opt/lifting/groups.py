"""Finds the nodes of a program that one call of a module has made, so that they become a call of this module again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import is_parametrized

from upscale_opt.capture.hooks import has_backward_hooks, has_foreign_hooks
from upscale_opt.operators.spellings import aten_name
from upscale_opt.operators.table import MODULE_RULES

STACK = "nn_module_stack"
"""Key in a node's ``meta``: the calls of modules around it, the outermost first, each with path and class."""


def is_leaf(module: nn.Module) -> bool:
    """Whether calls of a module are kept: there is a rule for its class, or it does more than its operators say."""
    known = type(module) in MODULE_RULES
    of_torch = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
    return known or (of_torch and _does_more(module))


def _does_more(module: nn.Module) -> bool:
    return is_parametrized(module) or has_backward_hooks(module) or has_foreign_hooks(module)


@dataclass(frozen=True)
class Call:
    """The nodes of one call of a module.

    Attributes
    ----------
    path
        Path of the module.
    module
        The module.
    nodes
        The nodes, in order.
    arguments
        What the module is called with: nodes of the program.
    result
        The node of the program that is the module's result. For a module with several results, the first of them.
    is_first_of_several
        Whether the module returns several results.
    """

    path: str
    module: nn.Module
    nodes: tuple[fx.Node, ...]
    arguments: tuple[fx.Node, ...]
    result: fx.Node
    is_first_of_several: bool = False


def calls_of(
    graph: fx.Graph,
    module_of: Callable[[str], nn.Module | None],
    tensor_of: Callable[[fx.Node], torch.Tensor | None],
) -> dict[fx.Node, Call]:
    """Return the calls of modules that are kept, by each of their nodes.

    Parameters
    ----------
    graph
        The graph of a program.
    module_of
        Returns the module of a path, if it is at hand.
    tensor_of
        Returns the parameter or buffer that a node stands for. None for other nodes.
    """
    found: dict[fx.Node, Call] = {}
    for path, module, nodes in _runs(graph, module_of):
        call = _call(path, module, nodes, tensor_of)
        if call is not None:
            found |= dict.fromkeys(nodes, call)
    return found


def stack_of(node: fx.Node) -> list[tuple[str, str, Any]]:
    """Return the calls of modules around a node, the outermost first: a name of the call, path and class."""
    stack: Mapping[str, Any] = node.meta.get(STACK) or {}
    return [(key, str(own[0]).partition("@")[0], own[1]) for key, own in stack.items() if not key.startswith("_empty")]


def _runs(
    graph: fx.Graph, module_of: Callable[[str], nn.Module | None]
) -> Iterator[tuple[str, nn.Module, list[fx.Node]]]:
    """Yield the nodes between the begin and the end of every call of a module that is kept."""
    last: tuple[str, str] | None = None
    module: nn.Module | None = None
    nodes: list[fx.Node] = []
    for node in graph.nodes:
        if node.op == "placeholder" or (node.op != "output" and not stack_of(node)):
            continue
        own = None if node.op == "output" else next(_kept(node, module_of), None)
        key = None if own is None else own[:2]
        if key != last:
            if module is not None and last is not None:
                yield last[1], module, nodes
            last, module, nodes = key, None if own is None else own[2], []
        nodes.append(node)


def _kept(node: fx.Node, module_of: Callable[[str], nn.Module | None]) -> Iterator[tuple[str, str, nn.Module]]:
    for key, path, _ in stack_of(node):
        module = module_of(path)
        if module is not None and path and is_leaf(module):
            yield key, path, module


def _call(
    path: str, module: nn.Module, nodes: list[fx.Node], tensor_of: Callable[[fx.Node], torch.Tensor | None]
) -> Call | None:
    """Return the call of a module, or None if its arguments cannot be told from the nodes."""
    inside = set(nodes)
    own = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    entering = dict.fromkeys(x for node in nodes for x in node.all_input_nodes if x not in inside)
    tensors = [
        x for x in entering if id(tensor_of(x)) not in own and not _is_size(x) and not _is_write_of(x, own, tensor_of)
    ]
    results = [node for node in nodes if any(user not in inside for user in node.users)]
    results = [node for node in results if not _is_write_of(node, own, tensor_of)]
    if any(node.op == "get_attr" or not isinstance(node.target, _OPERATORS) for node in nodes):
        return None
    if len(results) != 1 or not isinstance(results[0].meta.get("val"), torch.Tensor):
        return None
    if isinstance(module, nn.MultiheadAttention):
        arguments = _of_attention(nodes, tensors, own, tensor_of)
        return None if arguments is None else Call(path, module, tuple(nodes), arguments, results[0], True)
    if len(tensors) != 1 or not _is_usual(module, nodes):
        return None
    several = isinstance(module, nn.RNNBase) or getattr(module, "return_indices", False) is True
    is_part = results[0].target is operator.getitem
    if several != is_part or (is_part and results[0].args[1] != 0):
        return None
    return Call(path, module, tuple(nodes), tuple(tensors), results[0], several)


_OPERATORS = (torch._ops.OpOverload, type(lambda: None), type(len))


def _is_size(node: fx.Node) -> bool:
    return not isinstance(node.meta.get("val"), (torch.Tensor, tuple, list))


def _is_write_of(node: fx.Node, own: set[int], tensor_of: Callable[[fx.Node], torch.Tensor | None]) -> bool:
    """Whether a node is a buffer of the module after it was changed in place (``num_batches_tracked.add_(1)``)."""
    while node.op == "call_function" and (aten_name(node.target) or "").endswith("_"):
        first = node.args[0]
        if not isinstance(first, fx.Node):
            return False
        node = first
        if id(tensor_of(node)) in own:
            return True
    return False


def _is_usual(module: nn.Module, nodes: list[fx.Node]) -> bool:
    """Whether a module was called with its input only. The size of a transposed convolution can be an argument, too."""
    if not isinstance(module, nn.modules.conv._ConvTransposeNd):
        return True
    given = [node.args[5] if len(node.args) > 5 else None for node in nodes if len(node.args) > 2]
    padding = [tuple(own) for own in given if isinstance(own, (tuple, list))]
    return all(own == tuple(module.output_padding) for own in padding)


def _of_attention(
    nodes: list[fx.Node],
    tensors: list[fx.Node],
    own: set[int],
    tensor_of: Callable[[fx.Node], torch.Tensor | None],
) -> tuple[fx.Node, ...] | None:
    """Return query, key and value of an attention, or None if there is a mask, or they cannot be told apart."""
    if len(tensors) == 1:
        return (tensors[0],) * 3
    inside = set(nodes)
    sources = []
    for node in nodes:
        if aten_name(node.target) == "linear":
            found = {x for x in _before(node.args[0], inside) if x in tensors}
            if len(found) == 1:
                sources.append(found.pop())
    if set(sources) != set(tensors) or len(sources) not in (2, 3):
        return None
    return sources[0], sources[1], sources[-1]


def _before(node: Any, inside: set[fx.Node]) -> set[fx.Node]:
    """Return the nodes outside of a call from which a tensor is computed without another layer."""
    waiting, found = [node], set()
    while waiting:
        x = waiting.pop()
        if x not in inside:
            found.add(x)
        elif aten_name(x.target) != "linear":
            waiting += x.all_input_nodes
    return found
