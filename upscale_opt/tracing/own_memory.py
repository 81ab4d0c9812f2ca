"""Whether an addition to a tensor may be in place: nobody needs the old values, and the tensor owns its memory.

A tensor owns its memory if every entry has a place of its own, which no parameter and no input uses.
"""

from __future__ import annotations

import operator
from collections.abc import Collection

import torch
from torch import fx, nn
from torch.nn import functional

from upscale_opt.capture.hooks import has_foreign_hooks
from upscale_opt.capture.regions import regions_of
from upscale_opt.capture.shared_memory import Memory, kind_of
from upscale_opt.modules.selections import Factor, Gather
from upscale_opt.modules.writes import RangeAdd, ScatterAdd
from upscale_opt.operators.table import CONCATS
from upscale_opt.tracing.writes import ADDITIONS, PRODUCTS, SUBTRACTIONS

_COMPUTING_MODULES = (Gather, Factor, nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd, nn.Linear)
_PASSING_MODULES = (RangeAdd, ScatterAdd, nn.Identity)
_COMPUTING_FUNCTIONS = (*CONCATS, functional.pad, torch.clone, "clone")
_IN_PLACE = (operator.iadd, operator.isub, operator.imul, "add_", "sub_", "mul_")
_PASSING_FUNCTIONS = (
    *(torch.relu, functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.gelu),
    *(functional.silu, functional.mish, functional.hardswish, functional.dropout, functional.max_pool2d),
    *(functional.avg_pool2d, functional.adaptive_avg_pool2d, "relu", "relu_", "contiguous", "clone"),
)
_PASSING_PACKAGES = tuple(f"torch.nn.modules.{name}" for name in ("activation", "pooling", "dropout", "normalization"))


def computing_nodes(module: fx.GraphModule, known: Collection[str]) -> frozenset[str]:
    """Names of nodes that compute new tensors, without aliases: the known ones, gathers, factors and paddings.

    Parameters
    ----------
    module
        A traced model, or the module of an export.
    known
        Names of nodes that are known to compute new tensors.
    """
    found = set(known)
    for node in module.graph.nodes:
        called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(called, (Gather, Factor)) or kind_of(node) is functional.pad:
            found.add(node.name)
    return frozenset(found)


def owns_memory(module: fx.GraphModule, node: fx.Node, computing: Collection[str]) -> bool:
    """Whether the tensor of a node is known to own its memory. Operators that are not known end the search.

    Parameters
    ----------
    module
        A traced model, or the module of an export.
    node
        The node.
    computing
        Names of nodes that compute new tensors (`computing_nodes`).
    """
    while node.name not in computing:
        kind = kind_of(node)
        if node.op == "call_module":
            called = module.get_submodule(str(node.target))
            if has_foreign_hooks(called):
                return False
            computes = isinstance(called, _COMPUTING_MODULES)
            passes = isinstance(called, _PASSING_MODULES) or type(called).__module__ in _PASSING_PACKAGES
        else:
            arithmetic = kind in (*ADDITIONS, *SUBTRACTIONS, *PRODUCTS)
            computes = kind in _COMPUTING_FUNCTIONS or (arithmetic and kind not in _IN_PLACE)
            passes = arithmetic or kind in _PASSING_FUNCTIONS
        if computes or not passes:
            return computes
        if not node.args or not isinstance(node.args[0], fx.Node):
            return False
        node = node.args[0]
    return True


def why_not_in_place(
    module: fx.GraphModule, memory: Memory, computing: Collection[str], addition: fx.Node, other: fx.Node, end: fx.Node
) -> str:
    """Why an addition must not overwrite one of its operands. Empty if it may.

    Parameters
    ----------
    module
        A traced model or an export.
    memory
        Its memory.
    computing
        Names of nodes that compute new tensors (`computing_nodes`).
    addition, other, end
        The addition, the operand to overwrite, and the operand that is added to it.
    """
    if len(set(regions_of(module).values())) > 1:
        return "the network has regions with another gradient mode or precision"
    if not owns_memory(module, other, computing):
        return f"it is not known that {other.name} has memory of its own"
    if memory.share(other, end):
        return "both operands share memory"
    return f"{other.name} is needed again later" if memory.is_seen_after(other, addition) else ""
