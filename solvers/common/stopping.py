"""When a solve stops before the optimum is proven: rules on time, work, gap and value. ``|`` and ``&`` combine them.

    solve(problem, stop=GapLimit(0.05) | NoImprovement(seconds=20))

A rule is a function of the `Standing` that says whether to stop, so users can write their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from problems.showing.reprs import shown
from solvers.common.errors import SolverError
from solvers.common.result import StopReason, gap_between


@shown
@dataclass(frozen=True)
class Standing:
    """What rules look at.

    Attributes
    ----------
    seconds, work
        Since the start of the solve. Work is about seconds of one core, counted in steps of the methods; it does not
        depend on the machine.
    value
        That of the best order so far; None before the first one is known.
    bound
        No order has a smaller value; None while nothing is known.
    seconds_since, work_since
        Since the value last improved, or since the start.
    """

    seconds: float
    work: float
    value: int | None
    bound: int | None
    seconds_since: float
    work_since: float

    @property
    def gap(self) -> float | None:
        """``(value - bound) / max(1, value)``; None if one of them is not known."""
        return None if self.value is None else gap_between(self.value, self.bound)


Rule = Callable[[Standing], bool]
"""Says whether to stop."""


class StopRule:
    """What the rules of this package have in common: a reason, and that they can be combined.

    Examples
    --------
    >>> late = Standing(seconds=30, work=9, value=105, bound=100, seconds_since=2, work_since=1)
    >>> [rule(late) for rule in (GapLimit(0.05), TimeLimit(60) | TargetValue(110), TimeLimit(60) & TargetValue(110))]
    [True, True, False]
    """

    reason: ClassVar[StopReason] = StopReason.RULE

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        raise NotImplementedError

    def __or__(self, other: Rule) -> AnyOf:
        return AnyOf((*_parts(self, AnyOf), *_parts(other, AnyOf)))

    def __and__(self, other: Rule) -> AllOf:
        return AllOf((*_parts(self, AllOf), *_parts(other, AllOf)))


@dataclass(frozen=True)
class TimeLimit(StopRule):
    """Stop after so many seconds; more than 0. As good as the argument ``time_limit``; the smaller one counts."""

    seconds: float
    reason: ClassVar[StopReason] = StopReason.TIME_LIMIT

    def __post_init__(self) -> None:
        _require(self.seconds, "TimeLimit: seconds", above=0)

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.seconds >= self.seconds


@dataclass(frozen=True)
class WorkLimit(StopRule):
    """Stop after so much work; more than 0. The result depends on seed and limit only, not on the machine.

    With this rule, alone or as one of several of which any stops the solve, methods share work instead of time. A unit
    is about a second of one core, but may be several or a fraction: steps are counted, not timed. The time limit still
    holds; if it strikes first, `Result.stop_reason` says so, and the result is not reproducible.
    """

    work: float
    reason: ClassVar[StopReason] = StopReason.WORK_LIMIT

    def __post_init__(self) -> None:
        _require(self.work, "WorkLimit: work", above=0)

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.work >= self.work


@dataclass(frozen=True)
class GapLimit(StopRule):
    """Stop if the gap is at most so large; a share from 0 to 1."""

    gap: float
    reason: ClassVar[StopReason] = StopReason.GAP_LIMIT

    def __post_init__(self) -> None:
        _require(self.gap, "GapLimit: gap", most=1)

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.gap is not None and standing.gap <= self.gap


@dataclass(frozen=True)
class TargetValue(StopRule):
    """Stop at the first order whose value is at most this."""

    value: float
    reason: ClassVar[StopReason] = StopReason.TARGET_VALUE

    def __post_init__(self) -> None:
        _require(self.value, "TargetValue: value")

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.value is not None and standing.value <= self.value


@dataclass(frozen=True)
class Cutoff(StopRule):
    """Stop once it is proven that no order has a value below this: the bound reaches it.

    Together with ``TargetValue(value - 1)`` it answers whether there is such an order.
    """

    value: float
    reason: ClassVar[StopReason] = StopReason.CUTOFF

    def __post_init__(self) -> None:
        _require(self.value, "Cutoff: value")

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.bound is not None and standing.bound >= self.value


@dataclass(frozen=True)
class NoImprovement(StopRule):
    """Stop if no better order was found for so many seconds, or for so much work, whichever comes first.

    Better bounds do not count.
    """

    seconds: float = math.inf
    work: float = math.inf
    reason: ClassVar[StopReason] = StopReason.NO_IMPROVEMENT

    def __post_init__(self) -> None:
        _require(self.seconds, "NoImprovement: seconds", above=0)
        _require(self.work, "NoImprovement: work", above=0)
        if math.isinf(self.seconds) and math.isinf(self.work):
            raise SolverError("NoImprovement never stops; give seconds, or work")

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return standing.seconds_since >= self.seconds or standing.work_since >= self.work


@shown
@dataclass(frozen=True)
class AnyOf(StopRule):
    """Stop if one of the rules says so; ``a | b``."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        _require_rules(self.rules)

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return any(rule(standing) for rule in self.rules)


@shown
@dataclass(frozen=True)
class AllOf(StopRule):
    """Stop if all of the rules say so at once; ``a & b``."""

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        _require_rules(self.rules)

    def __call__(self, standing: Standing) -> bool:
        """Whether to stop."""
        return all(rule(standing) for rule in self.rules)


def alternatives(rule: Rule | None) -> tuple[Rule, ...]:
    """The rules of which any stops the solve."""
    return () if rule is None else _parts(rule, AnyOf)


def _parts(rule: Rule, kind: type[AnyOf] | type[AllOf]) -> tuple[Rule, ...]:
    return rule.rules if isinstance(rule, kind) else (rule,)


def _require_rules(rules: Any) -> None:
    if not isinstance(rules, tuple) or not rules or not all(callable(rule) for rule in rules):
        raise SolverError("rules that stop a solve combine with others of the kind; give GapLimit(0.01), for example")


def _require(number: Any, what: str, *, above: float = -math.inf, most: float = math.inf) -> None:
    """Raise unless it is a number in its range; shares begin at 0."""
    real = isinstance(number, Real) and not isinstance(number, bool) and not math.isnan(float(number))
    if not real or not above < float(number) <= most or (most == 1 and float(number) < 0):
        limits = " from 0 to 1" if most == 1 else f" above {above:g}" if math.isfinite(above) else ""
        raise SolverError(f"{what} is {number!r:.40}; give a number{limits}")
