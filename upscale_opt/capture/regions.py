"""Keeps regions in a trace: parts of a forward with another gradient mode or another autocast precision.

torch.fx loses ``with torch.no_grad():``. Frozen layers would then be trained, and bfloat16 regions would run in
float32. Here a region becomes a pair of nodes, `enter` and `leave`, around its operators. The code of the traced module
uses ``with`` statements again, so that an error inside also leaves the region. Other contexts that a trace would lose
make their module a leaf module.
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

from upscale_opt.capture.pausing import Pausable
from upscale_opt.capture.proxies import Untraceable

REENTRANT = "reentrant"
"""Kind of a region that is checkpointed with ``use_reentrant=True``. It has gradients if one of its inputs has."""

Description = tuple[Any, ...]
"""A region's kind and the arguments of its context manager."""


class Entered:
    """A region that has been entered. Used as a context manager, it leaves the region at the end."""

    def __init__(self, context: AbstractContextManager[Any]) -> None:
        self.context = context
        context.__enter__()

    def __enter__(self) -> Entered:
        return self

    def __exit__(self, *error: Any) -> None:
        self.context.__exit__(*error)


class _Open(threading.local):
    """The regions that an interpreter of nodes has entered and not left yet."""

    def __init__(self) -> None:
        self.regions: list[Entered] = []


_open = _Open()


@fx.node.has_side_effect
def enter(kind: str, *arguments: Any) -> Any:
    """Enter a region. The node in front of a region calls this function.

    Parameters
    ----------
    kind
        ``no_grad``, ``enable_grad``, ``inference_mode``, ``autocast`` or ``reentrant``.
    arguments
        For ``inference_mode`` the mode. For ``autocast`` the device type, the dtype, whether it is enabled, and whether
        weights are cached. For ``reentrant`` the input tensors of the region.
    """
    tracers: list[Any] = [x.tracer for x in arguments if isinstance(x, fx.Proxy)]
    if tracers:  # the code of a traced module is being traced
        return tracers[0].regions.reentrant(arguments)
    entered = Entered(_context(kind, arguments))
    _open.regions.append(entered)
    return entered


@fx.node.has_side_effect
def leave(region: Entered) -> None:
    """Leave a region. The node behind a region calls this function."""
    _open.regions.remove(region)
    region.__exit__(None, None, None)


@contextmanager
def unwound() -> Iterator[None]:
    """At the end of the context, leave all regions that an interpreter of nodes has entered, also after an error."""
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
        if device == "meta":  # only used to find shapes
            return nullcontext()
        return torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cached)
    context: AbstractContextManager[Any] = getattr(torch, kind)(*arguments)
    return context


def regions_of(traced: fx.GraphModule) -> dict[str, tuple[Description, ...]]:
    """Return the regions around every node of a traced module, by node name, the outermost region first.

    Two nodes with equal regions run with the same gradient mode and in the same precision.
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


class Regions(Pausable):
    """The regions of a forward that is being traced.

    Parameters
    ----------
    tracer
        The tracer that creates the nodes.
    """

    def __init__(self, tracer: fx.Tracer) -> None:
        self._tracer = tracer
        self._stack: list[tuple[Any, fx.Node]] = []
        self._modes = _modes()

    def require_known(self) -> None:
        """Check that the modes of torch have changed only by regions that were recorded.

        Raises
        ------
        Untraceable
            For ``torch.set_grad_enabled(False)`` without ``with``, for instance.
        """
        if _modes() != self._modes:
            raise Untraceable("the gradient mode or autocast is switched without a with statement")

    def opened(self, context: Any, description: Description) -> None:
        """Record that a region has just been entered."""
        if self._is_paused:
            return
        self._modes = _modes()
        arguments: Any = self._tracer.create_arg(description)
        self._stack.append((context, self._tracer.create_node("call_function", enter, arguments, {})))

    def closed(self, context: Any) -> None:
        """Record that a region has just been left. If the region has no nodes, remove its `enter` node."""
        if self._is_paused:
            return
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
        """Record a checkpointed region, see `REENTRANT`."""
        tensors = tuple(x for x in inputs if isinstance(x, (torch.Tensor, fx.Proxy)))
        context = object()
        self.opened(context, (REENTRANT, *tensors))
        try:
            yield
        finally:
            self.closed(context)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the modes of torch if the code inside the context fails."""
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
        """Record all regions inside the context. The generated code then has ``with`` statements."""
        with _patched(self), self.restored():
            yield
            self.require_known()
            if self._stack:
                raise Untraceable("a region is not left")
        self._tracer.graph.on_generate_code(lambda _: with_statements)


_DEVICES = ("cpu", "cuda")


def _modes() -> tuple[Any, ...]:
    """Return the modes of torch that a region may change."""
    autocast = ((torch.is_autocast_enabled(own), torch.get_autocast_dtype(own)) for own in _DEVICES)
    return (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)


def _describe_autocast(context: Any) -> Description:
    made = (context.device, context.fast_dtype, context._enabled, context._cache_enabled)
    return ("autocast", *getattr(context, "_asked_for", made))


def _describe_hooks(context: saved_tensors_hooks) -> Description | None:
    if isinstance(context, save_on_cpu) or type(context).__module__ == "torch.utils.checkpoint":
        return None  # they only save memory; values and gradients stay the same
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
    """Patch context managers of torch, so that they report when they are entered and left, also as decorators."""
    originals = [(own, name, vars(own)[name]) for own in _CONTEXTS for name in ("__enter__", "__exit__")]
    originals.append((torch.autocast, "__init__", vars(torch.autocast)["__init__"]))
    for own, describe in _CONTEXTS.items():
        _patch(own, describe, regions)
    made = vars(torch.autocast)["__init__"]

    def init(self: Any, device_type: Any, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        # Keep the original arguments: torch disables autocast if the device is missing. The device type may also be a
        # proxy, if it comes from a tensor.
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
"""Name that torch.fx uses for this module in generated code."""
_ENTER = re.compile(rf"(?P<name>\w+) = (?P<call>\w*{_HERE}_enter\w*\(.*?\))(;  (?P<rest>.*))?$")
_LEAVE = re.compile(rf"\w+ = \w*{_HERE}_leave\w*\(\w+\)")


def with_statements(body: list[str]) -> list[str]:
    """Rewrite the code of a traced module: replace `enter` and `leave` by ``with`` statements."""
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
    """Return the usual source text of a region's context manager, such as ``torch.no_grad()``."""
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call) and isinstance(parsed.args[0], ast.Constant)
    kind, arguments = str(parsed.args[0].value), [ast.unparse(own) for own in parsed.args[1:]]
    if kind == REENTRANT:
        return call
    if kind == "autocast":
        names = ("dtype", "enabled", "cache_enabled")
        arguments = [arguments[0], *(f"{name}={own}" for name, own in zip(names, arguments[1:], strict=True))]
    return f"torch.{kind}({', '.join(arguments)})"
