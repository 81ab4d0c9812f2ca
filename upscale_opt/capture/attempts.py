"""The tracer's memory between attempts: how each module call is traced and why, and the state of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import fx


class Way(Enum):
    """How a call of a module is traced. The first way is tried first; the last one always works.

    ``TRACED``: trace into the module and record its buffers. ``BY_VALUE``: trace into it and use the values of its
    buffers. ``WHOLE``: keep the module as one operator.
    """

    TRACED = 0
    BY_VALUE = 1
    WHOLE = 2


ModuleCall = tuple[str, int]
"""Path of a module, and the number of earlier calls of it."""
NETWORK: ModuleCall = ("", 0)


class BeginAgainError(BaseException):
    """A failed attempt has changed the network, so tracing must begin again. Only `traced` may catch this."""


@dataclass
class Frame:
    """A module whose forward is being traced, and whether it has received or read buffers so far."""

    way: Way
    has_buffers: bool = False


@dataclass
class Lessons:
    """Results of earlier attempts: the way to trace each call that failed, the reasons, and the classes that failed."""

    ways: dict[ModuleCall, Way] = field(default_factory=dict)
    failing: set[type] = field(default_factory=set)
    reasons: dict[ModuleCall, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """The state of a trace at one point. The tracer returns to it after a failed attempt."""

    last: fx.Node
    stack: Mapping[str, Any]
    calls: Mapping[str, int]
    num_constants: int
    num_overwritten: int
    lost: frozenset[str]
    assigned: Mapping[str, fx.Proxy]
    proxies: Mapping[str, fx.Proxy]
    used: Mapping[str, None]
    settled: tuple[Any, ...]
