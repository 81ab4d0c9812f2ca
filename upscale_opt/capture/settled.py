"""Values that Python needed during a trace, and that were taken from the example inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from upscale_opt.capture.proxies import Untraceable
from upscale_opt.capture.source_lines import Place

CONDITION, NUMBER, LENGTH, TEXT, KEY = "condition", "number", "length", "text", "key"
"""Kinds of settled values: for ``if``; for ``int(x)``; for ``len(x)`` and loops; for f-strings; for dictionaries."""
TYPES = frozenset({"dtype", "device", "is_cuda", "is_cpu", "is_floating_point", "is_complex", "get_device"})
"""Questions about the type of a tensor. An export may be converted later, so it does not check the answers again."""
_OF_MEMORY = ("requires_grad", "is_leaf", "grad", "grad_fn", "stride", "is_contiguous", "data_ptr", "storage_offset")


class NeedsValueError(Untraceable):
    """Python needs a value in forward that depends on the values of the input."""


@dataclass(frozen=True)
class Settled:
    """A value that a trace took from the example inputs.

    Attributes
    ----------
    kind
        `CONDITION`, `NUMBER`, `LENGTH`, `TEXT` or `KEY`.
    value
        The value. For `LENGTH` it is the length of the node's object, otherwise the value of the node itself.
    node
        Name of the node.
    place
        The source line that needed it, or another place in words. None if it is not known.
    """

    kind: str
    value: Any
    node: str
    place: Place | str | None

    def __str__(self) -> str:
        where = "an unknown line" if self.place is None else str(self.place)
        return f"{self.kind} {self.value!r} in {where}"


def asked_from(node: fx.Node, value_of: Callable[[fx.Node], Any]) -> list[fx.Node]:
    """Return the nodes from which a size is computed, up to the first nodes that compute it from tensors.

    Parameters
    ----------
    node
        The node of the size, or of a tensor whose length counts.
    value_of
        Returns the value of a node for the example inputs.
    """
    found: dict[fx.Node, None] = {}
    waiting = [node]
    while waiting:
        own = waiting.pop()
        if own not in found:
            found[own] = None
            waiting += [x for x in own.all_input_nodes if is_size(value_of(x))]
    return list(found)


def is_size(value: Any) -> bool:
    """Whether a value is a number, a type, or a tuple of them, so that it may be the size or the type of a tensor."""
    if isinstance(value, (tuple, list)):
        return all(map(is_size, value))
    return isinstance(value, (int, float, complex, str, torch.dtype, torch.device, torch.layout, slice, type(None)))


def asks_for_memory(node: fx.Node) -> str | None:
    """Return the name of a question about the memory or the gradient of a tensor: an export may answer it otherwise."""
    name = question_of(node)
    return name if name in _OF_MEMORY else None


def asks_for_type(node: fx.Node) -> bool:
    """Whether a node asks for the dtype or the device of a tensor."""
    return question_of(node) in TYPES


def question_of(node: fx.Node) -> str:
    """Return the name of the attribute or method that a node asks for. Empty for other nodes."""
    if node.target is getattr:
        return str(node.args[1])
    return str(node.target) if node.op == "call_method" else ""
