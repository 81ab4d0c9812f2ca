"""Calls written in another form, so that rules can follow channels through them.

``addmm(b, x, w)`` becomes ``mm(x, w) + b``. The number of groups of a depthwise convolution becomes a length of its
input.
"""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch.nn import functional

from upscale_opt.capture.argument_names import arguments_of
from upscale_opt.models.attributes import attribute_of

GROUPS = "number of groups"
"""Key in a node's ``meta``: the constant in whose place the node stands."""
_CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
_PLACE_OF_GROUPS = 6
_SPELLINGS = {"call_function": (torch.addmm, torch.ops.aten.addmm.default), "call_method": ("addmm",)}


def decompose(traced: fx.GraphModule) -> None:
    """Bring the calls of a traced model into these forms, after `normalise`."""
    _split_sums(traced)
    _count_groups(traced)
    traced.recompile()


def _split_sums(traced: fx.GraphModule) -> None:
    """Write every sum of a product of matrices as a product and a sum.

    The product then has its input first, as every consumer has (GPT-2 in transformers calls ``addmm``).
    """
    for node in list(traced.graph.nodes):
        if node.target not in _SPELLINGS.get(node.op, ()):
            continue
        given = arguments_of(node, None)
        if given is None or given.get("beta", 1) != 1 or given.get("alpha", 1) != 1 or given.get("out") is not None:
            continue
        with traced.graph.inserting_before(node):
            product = traced.graph.call_function(torch.mm, (given["mat1"], given["mat2"]))
            total = traced.graph.call_function(torch.add, (product, node.args[0]))
        for own in (product, total):
            own.meta = dict(node.meta)
        node.replace_all_uses_with(total)
        traced.graph.erase_node(node)


def _count_groups(traced: fx.GraphModule) -> None:
    """Let functional depthwise convolutions ask their input for the number of groups, which an export may change."""
    for node in list(traced.graph.nodes):
        if node.op != "call_function" or node.target not in _CONVOLUTIONS:
            continue
        given = arguments_of(node, None) or {}
        weight, groups = given.get("weight"), given.get("groups")
        if type(groups) is not int or groups < 2 or not isinstance(weight, fx.Node) or weight.op != "get_attr":
            continue
        shape = attribute_of(traced, str(weight.target)).shape
        if tuple(shape[:2]) != (groups, 1):
            continue
        with traced.graph.inserting_before(node):
            sizes = traced.graph.call_function(getattr, (node.args[0], "shape"))
            number = traced.graph.call_function(operator.getitem, (sizes, 1 - len(shape)))
        for own in (sizes, number):
            own.meta = dict(node.meta)
        number.meta[GROUPS] = groups
        node.args = tuple(number if own is groups and i == _PLACE_OF_GROUPS else own for i, own in enumerate(node.args))
        node.kwargs = {key: number if key == "groups" else own for key, own in node.kwargs.items()}
