"""Writes a random program statement by statement. Every statement is executed at once, on real tensors.

The operators (in this folder) get operands and modules from the `Builder`, and give it expressions. An operator that
cannot be applied raises `Inapplicable`; the program does not change then.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from benchmarks.random_networks.program import NAMESPACE, Input, Program, Step

T = TypeVar("T")
MAX_ELEMENTS, MAX_DIMS, MAX_VALUE = 6000, 6, 1e4
CHANNELS = (4, 8, 6, 12, 3, 5, 2, 1)

REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)
"""The errors of PyTorch for a statement that does not fit its operands."""


class Inapplicable(Exception):
    """The operator cannot be applied to the existing tensors."""


class Value(str):
    """The name of a tensor, and its shape."""

    shape: tuple[int, ...]

    def __new__(cls, name: str, shape: Sequence[int]) -> Value:
        """A name with its shape."""
        value = super().__new__(cls, name)
        value.shape = tuple(shape)
        return value

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)


class Builder:
    """A program that is being written.

    Parameters
    ----------
    source
        Source of all random decisions. 0 is the simplest answer, so shrinking leads to simple networks.
    """

    def __init__(self, source: random.Random) -> None:
        self.source = source
        self.inputs: list[Input] = []
        self.options: list[str] = []
        self.form = ""
        self.init: list[str] = []
        self.steps: list[Step] = []
        self.values: list[Value] = []
        self.modules: dict[str, str] = {}
        self.used: set[str] = set()
        self.batch = 1 if self.chance(0.1) else 2
        self._host = nn.Module().eval()
        self._scope: dict[str, Any] = {**NAMESPACE, "self": self._host}
        self._pending: list[str] = []
        self._count = 0

    def chance(self, share: float) -> bool:
        """True with the given probability."""
        return self.source.randint(0, 999) >= 1000 - round(1000 * share)

    def pick(self, options: Sequence[T]) -> T:
        """One of several; the first is the simplest."""
        return options[self.source.randint(0, len(options) - 1)]

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self.source.randint(low, high)

    def add_input(self, name: str, shape: tuple[int, ...], high: int | None = None) -> None:
        """Add an argument to ``forward``."""
        given = Input(name, (self.batch, *shape), high)
        self.inputs.append(given)
        self._scope[name] = given.sample(self.batch, torch.Generator().manual_seed(len(self.inputs)))
        if high is None:
            self.values.append(Value(name, given.shape))

    def add_option(self, default: str) -> str:
        """Add an argument with a default to ``forward``, which no call gives. Returns its name."""
        name = f"option{len(self.options)}"
        self.options.append(f"{name}={default}")
        self._scope[name] = eval(default)
        return name

    def tensor(self, *ndims: int, where: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> Value:
        """A tensor whose number of dimensions and shape meet a condition. Recent tensors are preferred."""
        fitting = [v for v in reversed(self.values) if (not ndims or v.ndim in ndims) and where(v.shape)]
        if not fitting:
            raise Inapplicable
        return fitting[min(self.integer(0, len(fitting) - 1) for _ in range(3))]

    def size(self, x: Value, dim: int) -> str:
        """An expression for a size of a tensor; the batch is rarely a constant."""
        computed = (f"{x}.size({dim})", f"{x}.shape[{dim}]", f"{x}.size()[{dim}]")
        if dim == 0:
            return self.pick((*computed * 4, str(x.shape[dim])))
        return self.pick((str(x.shape[dim]), str(x.shape[dim]), *computed))

    def module(self, expression: str) -> str:
        """Add a submodule; returns its name in ``forward``."""
        kind = expression.split("(")[0].rpartition(".")[2].lower()
        name = f"self.{kind}{self._next()}"
        self.declare(f"{name} = {expression}")
        return name

    def parameter(self, *shape: int, buffer: bool = False) -> str:
        """Add a parameter, or buffer, to the network itself; returns its name in ``forward``."""
        name = f"weight{self._next()}"
        values = f"torch.randn({', '.join(map(str, shape))})"
        made = f"self.register_buffer({name!r}, {values})" if buffer else f"nn.Parameter({values})"
        # A buffer's line begins with its attribute, so that unused lines can be recognised.
        self.declare(f"self.{name} = nn.Buffer({values})" if buffer else f"self.{name} = {made}")
        return f"self.{name}"

    def declare(self, line: str) -> None:
        """Add a line to ``__init__``."""
        self._run(line)
        self._pending.append(line)

    def emit(self, expression: str, outputs: int = 1, *, region: str = "") -> Value:
        """Add the statement ``name, ... = expression``, maybe in ``with region:``; returns its first value."""
        names = [f"v{self._next()}" for _ in range(outputs)]
        line = f"{region and f'with {region}: '}{', '.join(names)} = {expression}"
        self._run(line)
        values = [self._checked(name) for name in names]
        self._commit(line, names)
        self.values.extend(values)
        return values[0]

    def bind(self, expression: str) -> str:
        """Add the statement ``name = expression`` for a value that is not a tensor: a size, a tuple of tensors."""
        name = f"s{self._next()}"
        self._run(f"{name} = {expression}")
        self._commit(f"{name} = {expression}", [name])
        return name

    def change(self, statement: str, *changed: Value) -> None:
        """Add a statement that changes tensors in place."""
        if any(value in {given.name for given in self.inputs} for value in changed) and not self.chance(0.2):
            raise Inapplicable
        self._run(statement)
        self._commit(statement, ())

    def evaluate(self, expression: str) -> Any:
        """The current value of an expression."""
        return eval(expression, self._scope)

    def attempt(self, operator: Callable[[Builder], Any]) -> bool:
        """Apply an operator; False if it does not apply."""
        try:
            operator(self)
        except Inapplicable:
            self._pending.clear()
            return False
        self.used.add(operator.__name__)
        return True

    def finish(self, output: str, *, seed: int) -> Program:
        """The program that returns an expression."""
        parts = (tuple(self.inputs), tuple(self.init), tuple(self.steps), output)
        program = Program(*parts, self.batch, False, seed, frozenset(self.used), tuple(self.options), self.form)
        if not _treats_samples_alike(program, self.batch):
            return replace(program, fixed_batch=True)
        if self.chance(0.5) and _treats_samples_alike(program, 1):
            return replace(program, batch=1)
        return program

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _run(self, line: str) -> None:
        with torch.no_grad():
            try:
                exec(line, self._scope)
                self._host.eval()
            except REFUSALS as error:
                raise Inapplicable from error

    def _checked(self, name: str) -> Value:
        tensor = self._scope[name]
        fine = (
            isinstance(tensor, torch.Tensor)
            and tensor.dtype == torch.float32
            and 0 < tensor.numel() <= MAX_ELEMENTS
            and 1 <= tensor.ndim <= MAX_DIMS
            and bool(tensor.abs().max() <= MAX_VALUE)
        )
        if not fine:
            raise Inapplicable
        return Value(name, tensor.shape)

    def _commit(self, line: str, names: Sequence[str]) -> None:
        self.init.extend(self._pending)
        self._pending.clear()
        self.steps.append(Step(line, tuple(names)))


def _treats_samples_alike(program: Program, batch: int) -> bool:
    """Whether no batch size is part of the code: three samples must give the same as the first `batch` of them.

    This must hold for all intermediate tensors, used or not.
    """
    everything = replace(program, output=f"({''.join(f'{name}, ' for step in program.steps for name in step.targets)})")
    model, inputs = everything.build(), program.example_inputs(batch=3)
    with torch.no_grad():  # slicing too: views of tensors that are written in place may need the same mode
        try:
            more, fewer = (
                tree_leaves(model(*everything.call_with([x[:n].clone() for x in inputs]))) for n in (3, batch)
            )
        except REFUSALS:
            return False
        if len(more) != len(fewer):
            return False
        pairs = [(a[:batch], b) for a, b in zip(more, fewer, strict=True) if isinstance(b, torch.Tensor)]
        return all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)
