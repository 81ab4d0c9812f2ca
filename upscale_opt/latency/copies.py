"""Copies of models that are measured beside each other, to estimate the error of a latency.

The addresses of its tensors can make one copy of an export several per cent slower than an equal copy, in every round.
The spread over rounds does not show this.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from copy import deepcopy
from typing import TypeVar

from torch import nn

from upscale_opt.errors import ModelError

Measured = TypeVar("Measured")


def copied(models: Mapping[str, nn.Module], copies: int, *, twice: Container[str] = ()) -> dict[str, nn.Module]:
    """Copies of all models. Every model comes once before any comes again. The first ones are the models themselves.

    Parameters
    ----------
    models
        Name to model.
    copies
        Number of copies, including the models themselves.
    twice
        Models with twice as many copies: those that all others are compared with.

    Examples
    --------
    >>> list(copied({"floor": nn.ReLU(), "greedy": nn.ReLU()}, 2, twice=["floor"]))
    ['floor 0', 'greedy 0', 'floor 1', 'greedy 1', 'floor 2', 'floor 3']
    """
    return {
        f"{name} {i}": deepcopy(model) if i else model
        for i in range(2 * copies)
        for name, model in models.items()
        if i < copies or name in twice
    }


def require_copies(copies: int) -> None:
    """Raise an error if there are no copies to measure.

    Raises
    ------
    ModelError
        If the number is below 1.
    """
    if copies < 1:
        raise ModelError(f"the number of copies is {copies}; give at least 1")


def by_model(measured: Mapping[str, Measured], names: Iterable[str]) -> dict[str, list[Measured]]:
    """Group measurements of copies by the name of the model.

    Examples
    --------
    >>> by_model({"floor 0": 1.0, "greedy 0": 1.2, "floor 1": 1.1, "greedy 1": 1.3}, ["floor", "greedy"])
    {'floor': [1.0, 1.1], 'greedy': [1.2, 1.3]}
    """
    return {name: [own for key, own in measured.items() if key.rpartition(" ")[0] == name] for name in names}
