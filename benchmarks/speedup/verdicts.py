"""Which method is better at equal measured time, beyond the noise; and how well times were predicted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from benchmarks.results import Row
from benchmarks.speedup.cells import JOINT
from benchmarks.speedup.judging import OK

PLACE = ("network", "budget", "target", "backend", "batch")
NORMALISED, REPAIRED, TUNED = "with BatchNorm statistics only", "after repair", "after fine-tuning"
FIGURES = {NORMALISED: "batch_norm_kl", REPAIRED: "kl", TUNED: "tuned_kl"}
"""Per stage, the figure that is compared: KL to the dense network on held-out images; lower is better."""
LEAST = 0.02
"""Smallest difference that counts, as a share of the mean of both."""
BETTER, ALIKE, WORSE = "better", "alike", "worse"


@dataclass(frozen=True)
class Comparison:
    """Two methods at one place, both at the target.

    Attributes
    ----------
    place
        Values of `PLACE`.
    first, second, stage
        The methods, and one of `FIGURES`.
    values
        Pairs of the figure: one per seed, or one per group of held-out images if there is one seed.
    """

    place: tuple[str, ...]
    first: str
    second: str
    stage: str
    values: tuple[tuple[float, float], ...]

    @property
    def ratio(self) -> float:
        """Mean of the first over mean of the second."""
        first, second = np.mean(self.values, axis=0)
        return float(first / second) if second > 0 else 1.0

    @property
    def verdict(self) -> str:
        """The first is ``better`` or ``worse`` if the mean difference is beyond `LEAST` and two standard errors.

        Examples
        --------
        >>> pairs = ((1.0, 2.0), (1.1, 2.1)), ((1.0, 2.0), (2.0, 1.0)), ((3.0, 1.0), (3.1, 1.0)), ((1.0, 2.0),)
        >>> [Comparison((), "", "", "", own).verdict for own in pairs]
        ['better', 'alike', 'worse', 'alike']
        """
        own = np.asarray(self.values)
        differences = own[:, 0] - own[:, 1]
        error = float(differences.std(ddof=1)) / len(own) ** 0.5 if len(own) > 1 else np.inf
        mean = float(differences.mean())
        if abs(mean) <= max(LEAST * float(own.mean()), 2 * error):
            return ALIKE
        return BETTER if mean < 0 else WORSE


def comparisons(rows: Iterable[Row], first: str, second: str, stage: str) -> list[Comparison]:
    """Comparisons of two methods at all places where both reached the target, over the seeds that both have."""
    name = FIGURES[stage]
    found: dict[tuple[str, ...], dict[str, dict[str, Row]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["status"] == OK and row["reached"] and row.get(name) is not None:
            found[tuple(str(row[own]) for own in PLACE)][row["method"]][str(row["seed"])] = row
    made = []
    for place, by_method in found.items():
        one, other = by_method.get(first, {}), by_method.get(second, {})
        seeds = [seed for seed in one if seed in other]
        if len(seeds) > 1:
            values = [(float(one[seed][name]), float(other[seed][name])) for seed in seeds]
        elif seeds:
            groups = (one[seeds[0]][f"{name}_groups"], other[seeds[0]][f"{name}_groups"])
            values = list(zip(*groups, strict=True))
        else:
            continue
        made.append(Comparison(place, first, second, stage, tuple(values)))
    return made


def counts(found: Sequence[Comparison]) -> dict[str, int]:
    """Number of comparisons per verdict."""
    return {verdict: sum(own.verdict == verdict for own in found) for verdict in (BETTER, ALIKE, WORSE)}


def mean_ratio(found: Sequence[Comparison]) -> float:
    """Geometric mean of the ratios."""
    return float(np.exp(np.mean([np.log(max(own.ratio, 1e-9)) for own in found])))


def scoreboard(rows: Sequence[Row], methods: Sequence[str], against: str = JOINT) -> list[dict[str, str]]:
    """A row per method and stage: how often it is better or worse than another method."""
    lines = []
    for stage in FIGURES:
        for method in methods:
            found = comparisons(rows, method, against, stage)
            if method == against or not found:
                continue
            counted = {verdict: str(number) for verdict, number in counts(found).items()}
            lines.append(
                {"stage": stage, "method": method, **counted, f"KL / KL of {against}": f"{mean_ratio(found):.2f}"}
            )
    return lines


@dataclass(frozen=True)
class Accuracy:
    """Predicted against measured speedups.

    Attributes
    ----------
    number
        Of cells.
    error
        Mean of ``|predicted / measured - 1|``.
    spearman
        Rank correlation; NaN for fewer than three cells, or if all are equal.
    """

    number: int
    error: float
    spearman: float


def predictions(rows: Iterable[Row]) -> Accuracy | None:
    """How well speedups were predicted; None if none was.

    Examples
    --------
    >>> rows = [{"status": "ok", "predicted": p, "measured": m} for p, m in ((2, 2.5), (3, 3.75), (4, 5))]
    >>> predictions(rows)
    Accuracy(number=3, error=0.2, spearman=1.0)
    """
    pairs = np.array(
        [
            (float(row["predicted"]), float(row["measured"]))
            for row in rows
            if row["status"] == OK and row.get("predicted") is not None
        ]
    )
    if not len(pairs):
        return None
    error = float(np.round(np.abs(pairs[:, 0] / pairs[:, 1] - 1).mean(), 12))
    if len(pairs) < 3 or any(len(set(own)) < 2 for own in pairs.T):
        return Accuracy(len(pairs), error, float("nan"))
    return Accuracy(len(pairs), error, float(np.round(spearmanr(*pairs.T).statistic, 12)))
