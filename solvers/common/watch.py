"""What one call of `solve` knows: all methods report to it, and it decides whether to go on.

It keeps the best order, the best bound and the way there, tells the user's callback, and asks the rules. Whatever ends
a solve, its result is made of what was told here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock

from problems import Claim, Order
from solvers.common.clock import Clock
from solvers.common.result import Progress, StopReason, TrajectoryPoint
from solvers.common.stopping import Rule, Standing


class Stopped(BaseException):
    """The solve is to end now; nothing has gone wrong. Methods let it pass.

    Attributes
    ----------
    reason
        Why.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(f"stopped: {reason}")
        self.reason = reason


class CallbackFailed(BaseException):
    """A function of the user's raised the exception that is the cause of this one. Methods let it pass."""


class Watch:
    """Hears of every improvement.

    Parameters
    ----------
    progress
        The user's callback. If it returns True, the solve stops.
    rules
        Any of them stops the solve.
    counts_work
        Whether methods share work instead of seconds.
    known_bound
        A bound that the user knows.
    listeners
        Told of every improvement before the callback: a log.

    Attributes
    ----------
    clock
        What the methods read the time from.
    best, value, bound
        The best order, its value, and the best bound; None while nothing is known.
    points
        Every improvement.
    """

    def __init__(
        self,
        progress: Callable[[Progress], object] | None = None,
        rules: Sequence[Rule] = (),
        *,
        counts_work: bool = False,
        known_bound: int | None = None,
        listeners: Sequence[Callable[[Progress], object]] = (),
    ) -> None:
        self.clock = Clock(counts_work=counts_work, check=self._check if rules else None)
        self._known_bound = known_bound
        self.best: Order | None = None
        self.value: int | None = None
        self.bound: int | None = known_bound
        self.points: list[TrajectoryPoint] = []
        self._progress, self._rules, self._listeners = progress, tuple(rules), tuple(listeners)
        self._improved = (0.0, 0.0)
        self._claims: list[Callable[[], Sequence[Claim]]] = []
        self._lock = RLock()

    def __call__(self, told: Progress) -> None:
        """Take what a method tells, if it is news.

        Raises
        ------
        Stopped
            If the callback or a rule says so, or the bound meets the value.
        CallbackFailed
            If the callback raises an exception.
        """
        with self._lock:
            better = told.order is not None and (self.value is None or told.value < self.value)
            higher = told.bound is not None and (self.bound is None or told.bound > self.bound)
            if better:
                self.best, self.value = told.order, told.value
                self._improved = self.clock.seconds, self.clock.work
            if higher:
                self.bound = told.bound
            if better or higher or told.order is None:
                self._tell(told)

    def _tell(self, told: Progress) -> None:
        value = told.value if self.value is None else self.value
        news = Progress(self.clock.seconds, value, self.bound, self.best, self.clock.method)
        self.points.append(TrajectoryPoint(news.seconds, news.value, news.bound, news.method))
        try:
            for listener in self._listeners:
                listener(news)
            answer = None if self._progress is None else self._progress(news)
        except Exception as error:
            raise CallbackFailed from error
        if answer is True:
            raise Stopped(StopReason.CALLBACK)
        self._check()

    def hear_claims(self, claims: Callable[[], Sequence[Claim]]) -> None:
        """Remember where to ask for claims behind bounds."""
        self._claims.append(claims)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims behind the bounds, of all who were told of."""
        found: list[Claim] = []
        for claims in self._claims:
            found += [own for own in claims() if own not in found]
        return tuple(found)

    def close(self) -> None:
        """Ask no rule any more: the result is being made."""
        self.clock.check = None

    def standing(self) -> Standing:
        """What rules look at."""
        seconds, work = self.clock.seconds, self.clock.work
        return Standing(seconds, work, self.value, self.bound, seconds - self._improved[0], work - self._improved[1])

    def _check(self) -> None:
        """Raise `Stopped` if a rule says so, or the value is down to the bound that the user knows."""
        if self._known_bound is not None and self.value is not None and self.value <= self._known_bound:
            raise Stopped(StopReason.OPTIMAL)
        now = self.standing()
        for rule in self._rules:
            try:
                asked = rule(now)
            except Exception as error:
                raise CallbackFailed from error
            if asked:
                raise Stopped(getattr(rule, "reason", StopReason.RULE))
