"""Operators that are two in one, written as two: ``addmm(b, x, w)`` is ``mm(x, w) + b``."""

from __future__ import annotations

import torch
from torch import fx

from upscale_opt.capture.argument_names import arguments_of

_SPELLINGS = {"call_function": (torch.addmm, torch.ops.aten.addmm.default), "call_method": ("addmm",)}


def decompose(traced: fx.GraphModule) -> None:
    """Write every sum of a product of matrices as a product and a sum, in a traced model whose calls are normalised.

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
    traced.recompile()
