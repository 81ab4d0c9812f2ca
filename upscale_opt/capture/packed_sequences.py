"""Packed sequences on the meta device. Their batch sizes are numbers that torch keeps on the CPU."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


def packed(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[PackedSequence, bool] | None:
    """The result of a call of ``pack_padded_sequence`` on a meta tensor, and whether its lengths are known.

    If they are not known, because they are a tensor that depends on the input, all sequences have the full length.

    Parameters
    ----------
    node
        The call. The result is None for other nodes.
    args, kwargs
        The values of its arguments.
    """
    if node.target is not pack_padded_sequence:
        return None
    given = dict(zip(("input", "lengths", "batch_first", "enforce_sorted"), args, strict=False)) | kwargs
    x, lengths, first = given["input"], given["lengths"], given.get("batch_first", False)
    known = not (isinstance(lengths, torch.Tensor) and lengths.is_meta)
    if not known:
        lengths = [x.shape[1 if first else 0]] * x.shape[0 if first else 1]
    places = torch.zeros(*x.shape[:2], 1, device="cpu")
    chosen = pack_padded_sequence(places, lengths, first, given.get("enforce_sorted", True))
    data = x.new_empty(len(chosen.data), *x.shape[2:])
    return PackedSequence(data, chosen.batch_sizes), known


def is_last_state(node: fx.Node, module_of: Callable[[str], nn.Module]) -> bool:
    """Whether a node takes the last states of a recurrent layer. Their shape depends on no length of a sequence."""
    source: Any = node.args[0] if node.target is operator.getitem else None
    if not isinstance(source, fx.Node) or source.op != "call_module" or node.args[1] not in (1, -1):
        return False
    return isinstance(module_of(str(source.target)), nn.RNNBase)
