"""Copies of models that are measured beside each other: what a latency is worth.

Where its tensors happen to lie makes one copy of an export several per cent slower than another that is the same, round
after round, and no spread over rounds shows that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from copy import deepcopy
from typing import TypeVar

from torch import nn

from upscale_opt.errors import ModelError

Measured = TypeVar("Measured")


def copied(models: Mapping[str, nn.Module], copies: int, *, twice: Container[str] = ()) -> dict[str, nn.Module]:
    """Copies of all models, every model once before any a second time; the first are the models themselves.

    Parameters
    ----------
    models
        Name to model.
    copies
        How many, the models themselves included.
    twice
        Models of which there are twice as many: those that all others are compared with.

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
    """Raise if there are none to measure.

    Raises
    ------
    ModelError
        If the number is below 1.
    """
    if copies < 1:
        raise ModelError(f"the number of copies is {copies}; give at least 1")


def by_model(measured: Mapping[str, Measured], names: Iterable[str]) -> dict[str, list[Measured]]:
    """What was measured of the copies, by the name of the model.

    Examples
    --------
    >>> by_model({"floor 0": 1.0, "greedy 0": 1.2, "floor 1": 1.1, "greedy 1": 1.3}, ["floor", "greedy"])
    {'floor': [1.0, 1.1], 'greedy': [1.2, 1.3]}
    """
    return {name: [own for key, own in measured.items() if key.rpartition(" ")[0] == name] for name in names}
