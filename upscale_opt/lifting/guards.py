"""What a program of `torch.export` takes for granted about the sizes of its inputs, as nodes that compute it."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from upscale_opt.capture.settled import CONDITION, NUMBER, Settled

_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.Div: operator.truediv,
}
_COMPARED: dict[type, Callable[..., Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_CALLED: dict[str, Callable[..., Any]] = {
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "Max": max,
    "Min": min,
    "max": max,
    "min": min,
}
MOST = 64
"""If a program has more conditions than this, the sizes themselves are taken for granted."""


class UnreadableError(Exception):
    """A condition is written in a way that is not known."""


def conditions_of(program: ExportedProgram) -> list[str]:
    """Return the conditions on sizes of the inputs, as Python code. ``L['x']`` stands for the input ``x``."""
    found: list[str] = list(getattr(program, "_guards_code", None) or ())
    return list(dict.fromkeys(found))


def hold_for(conditions: list[str], sizes: Mapping[str, torch.Size]) -> bool:
    """Whether conditions hold for inputs of these shapes. Conditions that cannot be read are said to hold.

    Parameters
    ----------
    conditions
        The conditions.
    sizes
        Shapes of the inputs by their places, such as ``x['left']``.
    """

    def value_of(place: str, axis: int) -> int:
        return sizes[place][axis]

    for text in conditions:
        try:
            if not _evaluated(text, value_of, lambda function, *args: function(*args)):
                return False
        except (UnreadableError, KeyError):
            continue
    return True


def add_conditions(
    graph: fx.Graph,
    program: ExportedProgram,
    places: Mapping[str, fx.Node],
    sizes: Mapping[str, torch.Size],
    is_asked: Callable[[int], bool],
) -> tuple[Settled, ...]:
    """Add nodes that compute what a program takes for granted, and return the values that it takes.

    Parameters
    ----------
    graph
        The lifted graph.
    program
        The program.
    places
        Nodes of the input tensors by their places.
    sizes
        Their shapes in the example.
    is_asked
        Says for an axis of the inputs whether it matters that it has the length of the example: a network with a
        convolution refuses other channels by itself.
    """
    behind = [node for node in graph.nodes if node.op == "placeholder" or node in places.values()][-1]
    with graph.inserting_before(behind.next):
        return tuple(_Adding(graph, program, places, sizes, is_asked).settled())


class _Adding:
    def __init__(
        self,
        graph: fx.Graph,
        program: ExportedProgram,
        places: Mapping[str, fx.Node],
        sizes: Mapping[str, torch.Size],
        is_asked: Callable[[int], bool],
    ) -> None:
        self._graph, self._places, self._sizes, self._is_asked = graph, places, sizes, is_asked
        self._conditions = conditions_of(program)
        self._program = program
        self._known: dict[tuple[str, int], fx.Node] = {}

    def settled(self) -> Iterator[Settled]:
        fixed = dict.fromkeys(self._fixed())
        texts = [text for text in self._conditions if self._asks_about_more(text, set(fixed))]
        if len(texts) > MOST:
            fixed, texts = (
                dict.fromkeys((place, axis) for place, own in self._sizes.items() for axis in range(len(own))),
                [],
            )
        made: list[Settled] = []
        for text in texts:
            try:
                node = _evaluated(text, self._size, self._call)
            except (UnreadableError, KeyError):
                fixed |= dict.fromkeys(
                    (place, axis) for place in self._sizes for axis in range(len(self._sizes[place]))
                )
                continue
            if isinstance(node, fx.Node):
                made.append(Settled(CONDITION, True, node.name, f"the program of torch.export (`{_shown(text)}`)"))
        for place, axis in fixed:
            if self._is_asked(axis):
                size = self._size(place, axis)
                told = f"the program of torch.export (`{place}.size({axis})`)"
                made.append(Settled(NUMBER, self._sizes[place][axis], size.name, told))
        yield from made

    def _fixed(self) -> Iterator[tuple[str, int]]:
        """Yield the sizes that are constants of the program."""
        for place, node in self._places.items():
            value = node.meta.get("val")
            for axis, length in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
                if type(length) is int:
                    yield place, axis

    def _asks_about_more(self, text: str, fixed: set[tuple[str, int]]) -> bool:
        """Whether a condition is about sizes that are not constants."""
        asked: list[tuple[str, int]] = []

        def noted(place: str, axis: int) -> Any:
            asked.append((place, axis))
            return self._sizes[place][axis]

        try:
            _evaluated(text, noted, lambda function, *args: function(*args))
        except (UnreadableError, KeyError, ZeroDivisionError):
            return True
        return not set(asked) <= fixed

    def _size(self, place: str, axis: int) -> fx.Node:
        if (place, axis) not in self._known:
            self._known[place, axis] = self._graph.call_method("size", (self._places[place], axis))
        return self._known[place, axis]

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        if not any(isinstance(own, fx.Node) for own in args):
            return function(*args)
        return self._graph.call_function(function, args)


def _shown(text: str) -> str:
    return ast.unparse(ast.parse(text.replace("L['", "").replace("']", "", 1), mode="eval")) if _reads(text) else text


def _reads(text: str) -> bool:
    try:
        ast.parse(text.replace("L['", "").replace("']", "", 1), mode="eval")
    except SyntaxError:
        return False
    return True


def _evaluated(text: str, size: Callable[[str, int], Any], call: Callable[..., Any]) -> Any:
    """Evaluate a condition. `size` returns the length of an axis of an input, and `call` calls a function."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return call(_BINARY[type(node.op)], value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
            return call(operator.neg if isinstance(node.op, ast.USub) else operator.not_, value(node.operand))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
            return call(_COMPARED[type(node.ops[0])], value(node.left), value(node.comparators[0]))
        if isinstance(node, ast.BoolOp):
            parts = [value(own) for own in node.values]
            joining = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            result = parts[0]
            for own in parts[1:]:
                result = call(joining, result, own)
            return result
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLED:
            return call(_CALLED[node.func.id], *map(value, node.args))
        sized = _size_in(node)
        if sized is not None:
            return size(*sized)
        raise UnreadableError(text)

    try:
        return value(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise UnreadableError(text) from error


def _size_in(node: ast.expr) -> tuple[str, int] | None:
    """Return the input and the axis of ``L['x'].size()[0]``. None for another expression."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
        return None
    call = node.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "size":
        return None
    keys: list[str] = []
    source = call.func.value
    while isinstance(source, (ast.Subscript, ast.Attribute)):
        if isinstance(source, ast.Attribute):
            keys.append(f".{source.attr}")
        elif isinstance(source.slice, ast.Constant):
            keys.append(f"[{source.slice.value!r}]")
        else:
            return None
        source = source.value
    if not isinstance(source, ast.Name) or source.id != "L" or not keys:
        return None
    first, *rest = reversed(keys)
    return f"{first[2:-2]}{''.join(rest)}", int(node.slice.value)  # type: ignore[arg-type]
