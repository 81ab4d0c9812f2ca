"""What a program of `torch.export` takes for granted about the sizes of its inputs, as nodes that compute it."""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from upscale_opt.capture.settled import CONDITION, NUMBER, Settled
from upscale_opt.capture.source_lines import Place, is_of_network

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
_TRIED = (*range(5, 41), 48, 56, 64, 80, 96, 128, 224, 255, 256)
"""Lengths of axes that are tried to find out whether a condition says anything about usual sizes."""


class UnreadableError(Exception):
    """A condition is written in a way that is not known."""


@dataclass(frozen=True)
class Condition:
    """A condition on the sizes of the inputs.

    Attributes
    ----------
    text
        Python code, in which ``L['x']`` stands for the input ``x``.
    place
        The source line of the network that has asked. None if torch has asked by itself, or if that is not known.
    """

    text: str
    place: str | None

    def __str__(self) -> str:
        shown = re.sub(r"\.size\(\)\[(\d+)\]", r".size(\1)", re.sub(r"L\['(\w+)'\]", r"\1", self.text))
        return self.place or f"the program of torch.export (`{shown}`)"


def conditions_of(program: ExportedProgram) -> list[Condition]:
    """Return the conditions of a program on sizes of its inputs.

    torch itself asks much about memory formats, which does not matter: operators ask again when they run. So a question
    that is not the network's is left out if all usual sizes give the same answer.
    """
    texts: list[str] = list(getattr(program, "_guards_code", None) or ())
    asked = [_line(own) for own in _guards(program)]
    places = asked if len(asked) == len(texts) else [None] * len(texts)
    by_text: dict[str, str | None] = {}
    for text, place in zip(texts, places, strict=True):
        by_text[text] = by_text.get(text) or place
    return [Condition(text, place) for text, place in by_text.items() if place is not None or _says_something(text)]


def _guards(program: ExportedProgram) -> Sequence[Any]:
    for node in program.graph.nodes:
        mode = getattr(node.meta.get("val"), "fake_mode", None)
        if mode is not None and mode.shape_env is not None:
            guards: Sequence[Any] = mode.shape_env.guards
            return guards
    return ()


def _line(guard: Any) -> str | None:
    """Return the source line that has asked, if it is none of torch."""
    where = getattr(getattr(guard, "sloc", None), "framework_loc", None)
    file, number = getattr(where, "filename", None), getattr(where, "lineno", None)
    return str(Place(file, number)) if file is not None and number is not None and is_of_network(file) else None


def _says_something(text: str) -> bool:
    """Whether a condition does not hold for some usual sizes."""
    asked: dict[tuple[str, int], None] = {}

    def lengths(n: int, step: int) -> Callable[[str, int], int]:
        def length(place: str, axis: int) -> int:
            asked.setdefault((place, axis))
            return _TRIED[(n + step * list(asked).index((place, axis))) % len(_TRIED)]

        return length

    try:
        return not all(
            _evaluated(text, lengths(n, step), _now) for step in (0, 1, 7, len(_TRIED) // 2) for n in range(len(_TRIED))
        )
    except (UnreadableError, ZeroDivisionError):
        return True


def hold_for(conditions: Sequence[Condition], sizes: Mapping[str, torch.Size]) -> bool:
    """Whether conditions hold for inputs of these shapes. Conditions that cannot be read are said to hold.

    Parameters
    ----------
    conditions
        The conditions.
    sizes
        Shapes of the inputs by their places, such as ``x['left']``.
    """
    for own in conditions:
        try:
            if not _evaluated(own.text, lambda place, axis: sizes[place][axis], _now):
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
        Their shapes in the example, -1 for free ones of a program without example.
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
        free = {(place, axis): None for place, own in self._sizes.items() for axis in range(len(own))}
        conditions = [own for own in self._conditions if self._asks_about_more(own.text, set(fixed))]
        if len(conditions) > MOST:
            fixed, conditions = free, []
        for own in conditions:
            try:
                node = _evaluated(own.text, self._size, self._call)
            except (UnreadableError, KeyError):
                fixed |= free
                continue
            if isinstance(node, fx.Node):
                yield Settled(CONDITION, True, node.name, str(own))
        for place, axis in fixed:
            length = self._sizes[place][axis]
            if length >= 0 and self._is_asked(axis):
                told = f"the program of torch.export (`{place}.size({axis})`)"
                yield Settled(NUMBER, length, self._size(place, axis).name, told)

    def _fixed(self) -> Iterator[tuple[str, int]]:
        """Yield the sizes that are constants of the program."""
        for place, node in self._places.items():
            value = node.meta.get("val")
            for axis, length in enumerate(value.shape if isinstance(value, torch.Tensor) else ()):
                if is_constant(length):
                    yield place, axis

    def _asks_about_more(self, text: str, fixed: set[tuple[str, int]]) -> bool:
        """Whether a condition is about sizes that are not constants."""
        asked: list[tuple[str, int]] = []

        def noted(place: str, axis: int) -> Any:
            asked.append((place, axis))
            return 8

        try:
            _evaluated(text, noted, _now)
        except (UnreadableError, ZeroDivisionError):
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


def is_constant(length: Any) -> bool:
    """Whether a size in a program is the same for all inputs."""
    return type(length) is int or not length.node.expr.free_symbols


def _now(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


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
        return value(_parsed(text))
    except SyntaxError as error:
        raise UnreadableError(text) from error


@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


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
