"""Comparison of modes at equal latency: unconstrained networks against constrained ones of the same latency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.accuracy.latencies import EXPORTS
from upscale_opt.arguments.modes import CONSTRAINED

STAGES = {"reestimated": "with new BatchNorm statistics only", "tuned": "fine-tuned"}
LEAST = 0.4
"""Smallest difference in points of accuracy that counts: two of 500 images."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Accuracy of an unconstrained network minus that of a constrained one of the same latency, over the seeds.

    Attributes
    ----------
    network, method, mode, amount
        The unconstrained network.
    export
        The export whose latency is used: ``greedy`` or ``exact``.
    stage
        One of `STAGES`.
    points
        Differences in per cent of the test images, one per seed that could be compared.
    """

    network: str
    method: str
    mode: str
    amount: str
    export: str
    stage: str
    points: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.points))

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` if the mean is beyond `LEAST` and two standard errors, else ``alike``.

        Examples
        --------
        >>> points = (1.0, 1.2, 0.8), (3.0, -2.0, 0.5), (-1.0, -1.0, -1.0)
        >>> [Difference("", "", "", "", "", "", own).verdict for own in points]
        ['better', 'alike', 'worse']
        """
        spread = float(np.std(self.points, ddof=1)) / len(self.points) ** 0.5 if len(self.points) > 1 else np.inf
        if abs(self.mean) <= max(LEAST, 2 * spread):
            return "alike"
        return "better" if self.mean > 0 else "worse"


def differences(rows: Iterable[Row]) -> list[Difference]:
    """All comparisons that can be made.

    The constrained networks of the same network, importance and seed, together with the dense one, give a curve of
    accuracy over latency (of their exact exports), linear in between. An unconstrained network is compared with this
    curve at its own latency. If it is faster than the whole curve, it is not compared. If it is slower, it is compared
    with the slowest point. Latencies are shares of the dense network's.
    """
    curves: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    others: list[Row] = []
    for row in rows:
        if row["status"] == "ok" and row.get("exact") and row.get("reestimated"):
            mine = curves[row["network"], row["seed"], row["method"]] if row["mode"] == CONSTRAINED else others
            mine.append(row)
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in others:
        curve = curves.get((row["network"], row["seed"], row["method"]), [])
        for export in EXPORTS if curve else ():
            for stage in STAGES:
                there = on_curve(curve, float(row[export]), stage)
                if there is not None:
                    key = tuple(str(row[name]) for name in ("network", "method", "mode", "amount"))
                    found[(*key, export, stage)].append(float(row[stage]) - there)
    return [Difference(*key, tuple(points)) for key, points in found.items()]  # type: ignore[arg-type]


def on_curve(curve: Sequence[Row], latency: float, stage: str) -> float | None:
    """Accuracy of constrained networks at a latency; None if none of them is that fast.

    Examples
    --------
    >>> curve = [{"exact": "0.5", "tuned": "90", "dense": "98"}]
    >>> [on_curve(curve, latency, "tuned") for latency in (0.4, 0.75, 1.2)]
    [None, 94.0, 98.0]
    """
    points = sorted({(float(row["exact"]), float(row[stage])) for row in curve} | {(1.0, float(curve[0]["dense"]))})
    latencies, accuracies = zip(*points, strict=True)
    if latency < latencies[0]:
        return None
    return float(np.interp(latency, latencies, accuracies))


def counted(
    found: Iterable[Difference], by: Sequence[str] = ("network", "stage", "mode", "export")
) -> list[dict[str, Any]]:
    """Number of comparisons per verdict: one row per group of comparisons that agree in these attributes."""
    groups: dict[tuple[str, ...], list[Difference]] = defaultdict(list)
    for own in found:
        groups[tuple(getattr(own, name) for name in by)].append(own)
    return [
        dict(zip(by, key, strict=True))
        | {verdict: sum(own.verdict == verdict for own in group) for verdict in ("better", "alike", "worse")}
        | {"median difference": f"{np.median([own.mean for own in group]):+.1f}"}
        | {"lowest": _extreme(group, min), "highest": _extreme(group, max)}
        for key, group in sorted(groups.items())
    ]


def _extreme(group: Sequence[Difference], choose: Any) -> str:
    own = choose(group, key=lambda one: one.mean)
    return f"{own.mean:+.1f} ({own.method}, {own.amount})"
