"""The allocation problem: choose one sparsity level per layer. Times must meet a budget; the summed error is minimised.

A decision is a choice: per layer the index of a level. `AllocationProblem.evaluate` computes its time and its error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from problems.allocation.sparsity_levels import DECIMALS, MAX_ERROR
from problems.allocation.timing_tables import require_levels, require_name
from problems.conversions import items, objects, of_kind, real, reals
from problems.errors import ProblemError
from problems.showing.reprs import shown

TOLERANCE = 1e-9
"""Relative tolerance: how far the time of the whole model may exceed its target, because sums are rounded."""

MAX_TOTAL_ERROR = 2**52
"""Most units of error of a whole model: up to here, sums are exact in double precision."""


class UnreachableSpeedupError(ProblemError):
    """A speedup, or a budget, that even the fastest levels do not meet.

    Attributes
    ----------
    max_speedup
        The largest speedup that can be met.
    """

    def __init__(self, speedup: float, max_speedup: float) -> None:
        rounded_down = math.floor(max_speedup * 10**4) / 10**4
        super().__init__(
            f"a speedup of {speedup:.6g} is out of reach: the fastest levels give {rounded_down:.4f}; ask for that "
            "or less, or optimise more layers"
        )
        self.max_speedup = max_speedup


@shown
@dataclass(frozen=True)
class LayerLevels:
    """The levels of one layer, of which one is chosen.

    Parameters
    ----------
    name
        Name of the layer, without spaces.
    sparsities
        Labels of the levels: strictly ascending, in [0, 1), at least one. The first need not be 0.
    times
        Seconds per level, finite and not negative. They need not decrease.
    errors
        Units of error per level (`problems.allocation.sparsity_levels.ERROR_SCALE`): whole, from 0 to `MAX_ERROR`.

    Raises
    ------
    ProblemError
        If a number is not as described.
    """

    name: str
    sparsities: tuple[float, ...]
    times: tuple[float, ...]
    errors: tuple[int, ...]

    def __post_init__(self) -> None:
        require_name(self.name)
        object.__setattr__(self, "sparsities", reals(self.sparsities, f"layer {self.name!r}: sparsities"))
        object.__setattr__(self, "times", reals(self.times, f"layer {self.name!r}: times"))
        object.__setattr__(self, "errors", items(self.errors, f"layer {self.name!r}: errors"))
        require_levels(self.name, self.sparsities, self.times)
        if len(self.errors) != len(self.times):
            raise ProblemError(
                f"layer {self.name!r} has {len(self.times)} levels and {len(self.errors)} errors; give one each"
            )
        whole = all(isinstance(e, (int, np.integer)) and not isinstance(e, bool) for e in self.errors)
        if not whole or not all(0 <= e <= MAX_ERROR for e in self.errors):
            raise ProblemError(
                f"layer {self.name!r}: errors are whole units from 0 to {MAX_ERROR}; convert them with error_units"
            )
        object.__setattr__(self, "errors", tuple(int(e) for e in self.errors))

    @property
    def fastest(self) -> int:
        """The level of least time. Ties: the level of least error, then the first."""
        return min(range(len(self.times)), key=lambda level: (self.times[level], self.errors[level], level))

    def __str__(self) -> str:
        return f"{self.name}: {len(self.times)} levels, {min(self.times):.6g} to {max(self.times):.6g} s"


@shown
@dataclass(frozen=True)
class Totals:
    """Time and error of a choice.

    Attributes
    ----------
    time
        Seconds of all layers of the problem together, without the fixed time.
    error
        Units of error of all layers together.
    speedup
        The dense model's time divided by the model's time under the choice.
    """

    time: float
    error: int
    speedup: float


@shown
@dataclass(frozen=True)
class AllocationProblem:
    """Choose one level per layer within a budget of time, so that the summed error is least.

    Parameters
    ----------
    layers
        The layers to choose for, at least one; names are unique.
    base
        Seconds of the whole dense model, more than 0.
    budget
        Seconds that the layers may take together.
    fixed
        Seconds outside these layers, which no choice changes. Layers that stay dense count here. Default 0.
    name
        Name for messages.

    Raises
    ------
    UnreachableSpeedupError
        If the fastest levels exceed the budget (by more than `TOLERANCE` of the whole model's target time).
    ProblemError
        If a number is out of its range.

    Examples
    --------
    >>> layers = (LayerLevels("a", (0, 0.5), (3, 1), (0, 10)), LayerLevels("b", (0, 0.5), (2, 1), (0, 4)))
    >>> problem = AllocationProblem(layers, base=6, budget=4, fixed=1)
    >>> problem.evaluate((0, 1)), problem.max_speedup
    (Totals(time=4.0, error=4, speedup=1.2), 2.0)
    """

    layers: tuple[LayerLevels, ...]
    base: float
    budget: float
    fixed: float = 0.0
    name: str = "allocation"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", objects(self.layers, LayerLevels, "the layers"))
        for name in ("base", "budget", "fixed"):
            object.__setattr__(self, name, real(getattr(self, name), name))
        if not self.layers:
            raise ProblemError("there is no layer to choose a level for; give at least one")
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise ProblemError("two layers have the same name; names must be unique")
        if not (math.isfinite(self.base) and self.base > 0):
            raise ProblemError(f"base is {self.base}; give the seconds of the dense model, more than 0")
        if not (math.isfinite(self.fixed) and self.fixed >= 0):
            raise ProblemError(f"fixed is {self.fixed}; give the seconds outside the layers, at least 0")
        if sum(max(layer.errors) for layer in self.layers) > MAX_TOTAL_ERROR:
            raise ProblemError(f"errors sum to more than {MAX_TOTAL_ERROR} units; divide them by a common factor")
        if not math.isfinite(self.budget):
            raise ProblemError(f"budget is {self.budget}; give the seconds that the layers may take")
        if not self.fits(self.fastest_time):
            target = self.fixed + self.budget
            raise UnreachableSpeedupError(self.base / target if target > 0 else math.inf, self.max_speedup)

    @property
    def num_layers(self) -> int:
        """How many layers there are to choose for."""
        return len(self.layers)

    @cached_property
    def fastest_choice(self) -> tuple[int, ...]:
        """Per layer the level of least time; see `LayerLevels.fastest`."""
        return tuple(layer.fastest for layer in self.layers)

    @cached_property
    def fastest_time(self) -> float:
        """Seconds that the fastest choice takes."""
        return math.fsum(min(layer.times) for layer in self.layers)

    @property
    def max_speedup(self) -> float:
        """The largest speedup that a choice can have; infinite if nothing takes any time."""
        least = self.fixed + self.fastest_time
        return self.base / least if least > 0 else math.inf

    def fits(self, time: float) -> bool:
        """Whether layers that take `time` seconds together keep the budget.

        The time of the whole model is compared with its target, and may exceed it by `TOLERANCE`. So a largest speedup
        that was rounded to a double can still be met.
        """
        return self.fixed + time <= (self.fixed + self.budget) * (1 + TOLERANCE)

    def evaluate(self, choice: Sequence[int]) -> Totals:
        """Time and error of a choice, whether it keeps the budget or not.

        Raises
        ------
        ProblemError
            If the choice does not name one level of every layer.
        """
        levels = self.require_choice(choice)
        time = math.fsum(layer.times[level] for layer, level in zip(self.layers, levels))
        error = sum(layer.errors[level] for layer, level in zip(self.layers, levels))
        whole = self.fixed + time
        return Totals(time, error, self.base / whole if whole > 0 else math.inf)

    def require_choice(self, choice: Sequence[int]) -> tuple[int, ...]:
        """The choice in whole numbers.

        Raises
        ------
        ProblemError
            If the choice does not name one level of every layer.
        """
        choice = items(choice, "the choice")
        if len(choice) != self.num_layers:
            raise ProblemError(f"a choice has {len(choice)} levels for {self.num_layers} layers; give one per layer")
        for layer, level in zip(self.layers, choice):
            whole = isinstance(level, (int, np.integer)) and not isinstance(level, bool)
            if not whole or not 0 <= level < len(layer.times):
                raise ProblemError(
                    f"layer {layer.name!r} has no level {level!r}; give an index from 0 to {len(layer.times) - 1}"
                )
        return tuple(int(level) for level in choice)

    def profile(self, choice: Sequence[int]) -> dict[str, float]:
        """Sparsities of a choice, by layer name; see `problems.allocation.sparsity_profiles`."""
        levels = self.require_choice(choice)
        return {layer.name: layer.sparsities[level] for layer, level in zip(self.layers, levels)}

    def choice_of(self, profile: Mapping[str, float]) -> tuple[int, ...]:
        """The choice that a profile names. Sparsities are compared to 4 decimals. Layers of other problems are ignored.

        Raises
        ------
        ProblemError
            If a layer is missing or has no such level.
        """
        choice = []
        of_kind(profile, Mapping, "the profile")
        for layer in self.layers:
            if layer.name not in profile:
                raise ProblemError(f"the profile lacks layer {layer.name!r}; give its sparsity")
            choice.append(place_of(layer.name, profile[layer.name], layer.sparsities))
        return tuple(choice)

    def for_speedup(self, speedup: float) -> AllocationProblem:
        """The same problem with the budget ``base / speedup - fixed``.

        Raises
        ------
        UnreachableSpeedupError
            If the speedup is above `max_speedup`.
        ProblemError
            If the speedup is not a number above 0.
        """
        return dataclasses.replace(self, budget=_budget(self.base, speedup, self.fixed))

    def weighted(self, coefficients: Sequence[float]) -> AllocationProblem:
        """The same problem with every layer's errors times its coefficient, rounded to whole units.

        Raises
        ------
        ProblemError
            If there is not one coefficient per layer, or one is negative or not a number.
        """
        coefficients = reals(coefficients, "coefficients")
        if len(coefficients) != self.num_layers:
            raise ProblemError(f"there are {len(coefficients)} coefficients for {self.num_layers} layers; one each")
        if not all(math.isfinite(c) and c >= 0 for c in coefficients):
            raise ProblemError("coefficients of errors must be finite and not negative; draw them from [0, 1]")
        layers = tuple(
            dataclasses.replace(layer, errors=tuple(round(float(c) * error) for error in layer.errors))
            for layer, c in zip(self.layers, coefficients)
        )
        return dataclasses.replace(self, layers=layers)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.num_layers} layers, {self.budget:.6g} s for them and {self.fixed:.6g} s fixed; "
            f"speedup {self.max_speedup:.4g} at most"
        )


def place_of(name: str, sparsity: float, levels: Sequence[float]) -> int:
    """Index of a sparsity among the levels of a layer, to 4 decimals.

    Raises
    ------
    ProblemError
        If no level has that sparsity.
    """
    real(sparsity, f"layer {name!r}: sparsity")
    labels = [round(level, DECIMALS) for level in levels]
    try:
        return labels.index(round(sparsity, DECIMALS))
    except ValueError as error:
        raise ProblemError(
            f"layer {name!r}: sparsity {sparsity} is none of the {len(levels)} levels; choose one of them"
        ) from error


def _budget(base: float, speedup: float, fixed: float) -> float:
    if not (math.isfinite(real(speedup, "speedup")) and speedup > 0):
        raise ProblemError(f"speedup is {speedup}; give a number above 0, such as 2")
    return base / speedup - fixed
