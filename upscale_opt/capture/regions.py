"""Regions of a network's forward in which gradients, or the precision, are others than outside: kept in its trace.

``with torch.no_grad():`` leaves no trace with torch.fx: frozen layers learn, bfloat16 regions run in float32. Here a
region is a pair of nodes, `enter` and `leave`, around what lies between; the code of the traced module says ``with``
again, so that an error inside leaves the region, too. What else a trace would lose makes its module a leaf.
"""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from upscale_opt.capture.proxies import Untraceable

REENTRANT = "reentrant"
"""A region checkpointed with ``use_reentrant=True``: it has gradients if one of its inputs has."""

Description = tuple[Any, ...]
"""A region's kind and the arguments of its context manager."""


class Entered:
    """A region that has been entered; as a context manager it leaves it."""

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self.context = context
        context.__enter__()

    def __enter__(self) -> Entered:
        return self

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)


class _Open(threading.local):
    """The regions that interpreters of nodes are in."""

    def __init__(self) -> None:
        self.regions: list[Entered] = []


_open = _Open()


@fx.node.has_side_effect
def enter(kind: str, *arguments: Any) -> Any:
    """Enter a region: what a node does that stands in front of it.

    Parameters
    ----------
    kind
        ``no_grad``, ``enable_grad``, ``inference_mode`` (with the mode), ``autocast`` (with device type, dtype, whether
        it is enabled, whether weights are cached) or ``reentrant`` (with the tensors that enter).
    """
    tracers: list[Any] = [x.tracer for x in arguments if isinstance(x, fx.Proxy)]
    if tracers:  # the code of a traced module is being traced
        return tracers[0].regions.reentrant(arguments)
    entered = Entered(_context(kind, arguments))
    _open.regions.append(entered)
    return entered


@fx.node.has_side_effect
def leave(region: Entered) -> None:
    """Leave a region: what a node does that stands behind it."""
    _open.regions.remove(region)
    region.__exit__(None, None, None)


@contextmanager
def unwound() -> Iterator[None]:
    """Leave all regions that an interpreter of nodes has entered, even if it fails on the way."""
    depth = len(_open.regions)
    try:
        yield
    finally:
        while len(_open.regions) > depth:
            _open.regions.pop().__exit__(None, None, None)


def _context(kind: str, arguments: tuple[Any, ...]) -> AbstractContextManager[Any]:
    if kind == REENTRANT:
        trained = any(isinstance(x, torch.Tensor) and x.requires_grad for x in arguments)
        return nullcontext() if trained else torch.no_grad()
    if kind == "autocast":
        device, dtype, enabled, cached = arguments
        if device == "meta":  # where shapes are found out
            return nullcontext()
        return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cached)
    context: AbstractContextManager[Any] = getattr(torch, kind)(*arguments)
    return context


def regions_of(traced: fx.GraphModule) -> dict[str, tuple[Description, ...]]:
    """The regions that every node of a traced module is in, by its name, the outermost first.

    Two nodes whose regions are equal are computed with the same gradients and in the same precision.
    """
    current: list[tuple[fx.Node, Description]] = []
    found = {}
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target is leave:
            current = [own for own in current if own[0] is not node.args[0]]
        found[node.name] = tuple(own for _, own in current)
        if node.op == "call_function" and node.target is enter:
            current.append((node, tuple(x.name if isinstance(x, fx.Node) else x for x in node.args)))
    return found


# Recording


class Regions:
    """The regions of a forward that is being traced.

    Parameters
    ----------
    tracer
        Makes the nodes.
    """

    def __init__(self, tracer: fx.Tracer) -> None:
        self._tracer = tracer
        self._stack: list[tuple[Any, fx.Node]] = []
        self._modes = _modes()

    def require_known(self) -> None:
        """Raise unless all that has changed since the trace began is a region that was entered.

        Raises
        ------
        Untraceable
            For ``torch.set_grad_enabled(False)`` without ``with``, for instance.
        """
        if _modes() != self._modes:
            raise Untraceable("the gradient mode or autocast is switched without a with statement")

    def opened(self, context: Any, description: Description) -> None:
        """A region has just been entered."""
        self._modes = _modes()
        arguments: Any = self._tracer.create_arg(description)
        self._stack.append((context, self._tracer.create_node("call_function", enter, arguments, {})))

    def closed(self, context: Any) -> None:
        """A region has just been left; one in which nothing was recorded leaves no nodes."""
        self._modes = _modes()
        if not any(own is context for own, _ in self._stack):
            return
        last, node = self._stack.pop()
        if last is not context:
            raise Untraceable("regions that overlap")
        if next(iter(reversed(self._tracer.graph.nodes))) is node:
            self._tracer.graph.erase_node(node)
        else:
            self._tracer.create_node("call_function", leave, (node,), {})

    @contextmanager
    def reentrant(self, inputs: tuple[Any, ...]) -> Iterator[None]:
        """A checkpointed region, see `REENTRANT`."""
        tensors = tuple(x for x in inputs if isinstance(x, (torch.Tensor, fx.Proxy)))
        context = object()
        self.opened(context, (REENTRANT, *tensors))
        try:
            yield
        finally:
            self.closed(context)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The modes as they were afterwards, if what is traced inside fails."""
        modes, depth = self._modes, len(self._stack)
        try:
            yield
        except BaseException:
            del self._stack[depth:]
            torch._C._set_grad_enabled(modes[0])
            for device, (enabled, dtype) in zip(_DEVICES, modes[2:], strict=True):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
            self._modes = _modes()
            raise

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record all regions that are entered and left inside; their code says so (`with_statements`)."""
        with _patched(self), self.restored():
            yield
            self.require_known()
            if self._stack:
                raise Untraceable("a region is not left")
        self._tracer.graph.on_generate_code(lambda _: with_statements)


_DEVICES = ("cpu", "cuda")


def _modes() -> tuple[Any, ...]:
    """What a region may change."""
    autocast = ((torch.is_autocast_enabled(own), torch.get_autocast_dtype(own)) for own in _DEVICES)
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)


def _describe_autocast(context: Any) -> Description:
    made = (context.device, context.fast_dtype, context._enabled, context._cache_enabled)
    return ("autocast", *getattr(context, "_asked_for", made))


def _describe_hooks(context: saved_tensors_hooks) -> Description | None:
    if isinstance(context, save_on_cpu) or type(context).__module__ == "torch.utils.checkpoint":
        return None  # they save memory, and change neither values nor gradients
    raise Untraceable("a saved_tensors_hooks region")


_CONTEXTS: dict[Any, Callable[[Any], Description | None]] = {
    torch.no_grad: lambda own: ("no_grad",),
    torch.enable_grad: lambda own: ("enable_grad",),
    torch.set_grad_enabled: lambda own: ("enable_grad" if own.mode else "no_grad",),
    torch.inference_mode: lambda own: ("inference_mode", own.mode),
    torch.autocast: _describe_autocast,
    saved_tensors_hooks: _describe_hooks,
}


@contextmanager
def _patched(regions: Regions) -> Iterator[None]:
    """Context managers of torch that tell what they do, as decorators too."""
    originals = [(own, name, vars(own)[name]) for own in _CONTEXTS for name in ("__enter__", "__exit__")]
    originals.append((torch.autocast, "__init__", vars(torch.autocast)["__init__"]))
    for own, describe in _CONTEXTS.items():
        _patch(own, describe, regions)
    made = vars(torch.autocast)["__init__"]

    def init(self: Any, device_type: Any, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        # What is asked for: without the device torch disables it, and the device may be that of a tensor.
        self._asked_for = (device_type, dtype, enabled, cache_enabled)
        made(self, "cpu" if isinstance(device_type, fx.Proxy) else device_type, dtype, enabled, cache_enabled)

    torch.autocast.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        for own, name, method in originals:
            setattr(own, name, method)


def _patch(own: Any, describe: Callable[[Any], Description | None], regions: Regions) -> None:
    entering, leaving = vars(own)["__enter__"], vars(own)["__exit__"]

    def enter_and_tell(self: Any) -> Any:
        description = describe(self)
        result = entering(self)
        if description is not None:
            regions.opened(self, description)
        return result

    def leave_and_tell(self: Any, *error: Any) -> Any:
        result = leaving(self, *error)
        regions.closed(self)
        return result

    own.__enter__, own.__exit__ = enter_and_tell, leave_and_tell


# Code

_HERE = __name__.replace(".", "_")
"""What torch.fx calls this module in the code that it writes."""
_ENTER = re.compile(rf"(?P<name>\w+) = (?P<call>\w*{_HERE}_enter\w*\(.*?\))(;  (?P<rest>.*))?$")
_LEAVE = re.compile(rf"\w+ = \w*{_HERE}_leave\w*\(\w+\)")


def with_statements(body: list[str]) -> list[str]:
    """The code of a traced module with ``with`` statements in the place of `enter` and `leave`."""
    lines: list[str] = []
    depth, empty = 0, False
    for line in "".join(body).split("\n"):
        entering = _ENTER.match(line)
        if _LEAVE.match(line):
            lines += ["    " * depth + "pass"] if empty else []
            depth -= 1
            empty = False
        elif entering is not None:
            lines.append("    " * depth + f"with {_expression(entering['call'])}:")
            depth += 1
            empty = not entering["rest"]
            lines += ["    " * depth + entering["rest"]] if entering["rest"] else []
        else:
            lines.append("    " * depth + line if line else line)
            empty = empty and line.startswith("# COUNTER")
    return ["\n".join(lines)]


def _expression(call: str) -> str:
    """How people write a region's context manager."""
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call) and isinstance(parsed.args[0], ast.Constant)
    kind, arguments = str(parsed.args[0].value), [ast.unparse(own) for own in parsed.args[1:]]
    if kind == REENTRANT:
        return call
    if kind == "autocast":
        names = ("dtype", "enabled", "cache_enabled")
        arguments = [arguments[0], *(f"{name}={own}" for name, own in zip(names, arguments[1:], strict=True))]
    return f"torch.{kind}({', '.join(arguments)})"
