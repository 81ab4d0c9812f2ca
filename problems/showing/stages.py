"""How far a slow call is, in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """How far a call is.

    Parameters
    ----------
    what
        What is done, such as ``solve``.
    done, total
        Steps done, and steps in all; None if their number is not known.
    unit
        What a step is called.
    seconds
        Since its start.
    left
        Estimated seconds until its end; None if unknown.
    note
        A remark on the step that runs.
    within
        Enclosing stages, the outermost first.

    Examples
    --------
    >>> print(Stage("solve", 3, 12, "run", 30.0, 90.0, "layer1 auto", ("compare",)))
    compare > solve: 3 of 12 runs, 30 s, about 1:30 min left (layer1 auto)
    """

    what: str
    done: int = 0
    total: int | None = None
    unit: str = "step"
    seconds: float = 0.0
    left: float | None = None
    note: str = ""
    within: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [] if self.count == "" else [self.count]
        parts.append(_duration(self.seconds))
        if self.left is not None:
            parts.append(f"about {_duration(self.left)} left")
        note = f" ({self.note})" if self.note else ""
        return f"{' > '.join((*self.within, self.what))}: {', '.join(parts)}{note}"

    @property
    def count(self) -> str:
        """Text such as ``3 of 12 runs``. Empty if no step is done and their number is not known."""
        if self.total is not None:
            return f"{self.done} of {self.total} {_plural(self.unit, self.total)}"
        return f"{self.done} {_plural(self.unit, self.done)}" if self.done else ""


def _duration(seconds: float) -> str:
    """A duration in words: ``41 s``, ``1:30 min``, ``2:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02} h"


def _plural(unit: str, number: int) -> str:
    if number == 1:
        return unit
    if unit.endswith("y"):
        return f"{unit[:-1]}ies"
    return f"{unit}es" if unit.endswith(("ch", "s", "sh")) else f"{unit}s"
