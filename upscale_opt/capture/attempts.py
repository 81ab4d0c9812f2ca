"""What the tracer remembers between attempts: how calls of modules are traced, why, and where a trace stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from torch import fx


class Way(Enum):
    """How a call of a module is traced, from what is tried first to what always works."""

    TRACED = 0
    BY_VALUE = 1
    WHOLE = 2


ModuleCall = tuple[str, int]
"""Path of a module, and how often it was called before."""
NETWORK: ModuleCall = ("", 0)


class BeginAgainError(BaseException):
    """A failed attempt has changed the network. Nobody but `traced` is to catch this."""


@dataclass
class Frame:
    """A module whose forward is being traced, and whether it was given, or has read, buffers so far."""

    way: Way
    has_buffers: bool = False


@dataclass
class Lessons:
    """What earlier attempts have taught: how calls are traced that failed, why, and which kinds of modules do."""

    ways: dict[ModuleCall, Way] = field(default_factory=dict)
    failing: set[type] = field(default_factory=set)
    reasons: dict[ModuleCall, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """Where a trace stands."""

    last: fx.Node
    stack: Mapping[str, Any]
    calls: Mapping[str, int]
    num_constants: int
    num_overwritten: int
    lost: frozenset[str]
    assigned: Mapping[str, fx.Proxy]
    proxies: Mapping[str, fx.Proxy]
    used: Mapping[str, None]
