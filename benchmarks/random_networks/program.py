"""A random network as a program: lines of Python that you can read, copy into a test, shorten and run.

A `Program` is the text of an ``nn.Module``: the lines of its ``__init__`` and the statements of its ``forward``. The
module of `Program.build` has random parameters and statistics, and zeros where the program sets them.
"""

from __future__ import annotations

import linecache
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune  # noqa: F401  (programs call nn.utils.prune)

from benchmarks.random_networks import custom

NAMESPACE: dict[str, Any] = {"torch": torch, "nn": nn, "F": functional, "custom": custom, "math": math}
"""The names that the lines of a program may use, besides ``self`` and tensors."""


@dataclass(frozen=True)
class Input:
    """An input of a network: floating-point values, or whole numbers below `high`."""

    name: str
    shape: tuple[int, ...]
    high: int | None = None

    def sample(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """Random values for a batch size; float32 or int64."""
        shape = (batch, *self.shape[1:])
        if self.high is not None:
            return torch.randint(self.high, shape, generator=generator)
        return torch.randn(shape, generator=generator)


@dataclass(frozen=True)
class Step:
    """One statement of ``forward``, and the names it defines (none for an in-place statement)."""

    line: str
    targets: tuple[str, ...] = ()

    def uses(self, name: str) -> bool:
        """Whether the statement reads a name."""
        return name not in self.targets and re.search(rf"\b{name}\b", self.line) is not None

    def renamed(self, old: str, new: str) -> Step:
        """The statement with one name for another."""
        return Step(re.sub(rf"\b{old}\b", new, self.line), self.targets)


@dataclass(frozen=True)
class Program:
    """The text of a network.

    Attributes
    ----------
    inputs
        The arguments of ``forward``.
    init
        Lines of ``__init__``. Lines with an unused attribute are left out of `code`.
    steps
        Statements of ``forward``.
    output
        The expression it returns.
    batch
        Batch size of the example inputs.
    fixed_batch
        Whether the network only works for that batch size.
    seed
        Seed of the parameters.
    operators
        Names of the random operators in it.
    options
        Further arguments of ``forward`` with their defaults. No call gives them.
    form
        ``"list"`` or ``"dict"`` if ``forward`` gets all inputs in one list or dictionary. Empty otherwise.
    """

    inputs: tuple[Input, ...]
    init: tuple[str, ...]
    steps: tuple[Step, ...]
    output: str
    batch: int
    fixed_batch: bool
    seed: int
    operators: frozenset[str] = frozenset()
    options: tuple[str, ...] = ()
    form: str = ""

    @property
    def code(self) -> str:
        """Source of the class ``Network``."""
        names = [x.name for x in self.inputs]
        arguments = ", ".join(["self", *(["given"] if self.form else names), *self.options])
        lines = ["class Network(nn.Module):", "    def __init__(self):", "        super().__init__()"]
        lines += [f"        {line}" for line in self._needed_init()]
        lines += ["", f"    def forward({arguments}):"]
        if self.form:
            places = [repr(name) if self.form == "dict" else str(i) for i, name in enumerate(names)]
            taken = ", ".join(f"given[{place}]" for place in places)
            lines.append(f"        {', '.join(names)} = {taken}")
        lines += [f"        {step.line}" for step in self.steps]
        return "\n".join([*lines, f"        return {self.output}", ""])

    def build(self) -> nn.Module:
        """The network in eval mode, with random parameters that depend on `seed` only."""
        code = self.code
        name = f"<random network {hash(code)}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        namespace = dict(NAMESPACE)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            exec(compile(code, name, "exec"), namespace)
            model: nn.Module = namespace["Network"]().eval()
        linecache.cache.pop(name)
        randomise(model, torch.Generator().manual_seed(self.seed))
        return model

    def call_with(self, tensors: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        """The positional inputs of ``forward`` that hold these tensors."""
        if self.form == "dict":
            return ({x.name: tensor for x, tensor in zip(self.inputs, tensors, strict=True)},)
        return ([*tensors],) if self.form else tuple(tensors)

    def example_inputs(self, batch: int | None = None, seed: int = 0) -> tuple[torch.Tensor, ...]:
        """Random inputs, of the example's batch size unless told otherwise."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(x.sample(batch or self.batch, generator) for x in self.inputs)

    def _needed_init(self) -> list[str]:
        used = {name for step in self.steps for name in _attributes(step.line)} | set(_attributes(self.output))
        for line in reversed(self.init):
            first, *others = _attributes(line)
            if first in used:
                used.update(others)
        return [line for line in self.init if _attributes(line)[0] in used]


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Set random parameters and statistics, in place, so that no value is 0 or 1 and no two values are equal.

    Weights have mean square 1 / fan-in; their zeros stay zero. Statistics are of order 1, variances positive.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.copy_(0.6 + 0.3 * values)
            else:
                fan_in = max(1, parameter[0].numel())
                parameter.copy_(torch.where(parameter == 0, 0, values / math.sqrt(fan_in)))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                positive = name.endswith("running_var")
                uniform = torch.rand(buffer.shape, generator=generator)
                buffer.copy_(0.5 + uniform if positive else uniform - 0.5)


def _attributes(text: str) -> list[str]:
    return re.findall(r"\bself\.(\w+)", text)
