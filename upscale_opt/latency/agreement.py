"""Agreement of predictions with measurements: rank correlations that respect noise, and percentage errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr

INDISTINGUISHABLE = "orders indistinguishable"


@dataclass(frozen=True)
class Agreement:
    """Agreement of predicted and measured values.

    Attributes
    ----------
    spearman, kendall
        Rank correlations of all values (Spearman's rho, Kendall's tau-b), without regard to noise. None if either side
        is constant.
    concordance
        Kendall's tau over the pairs whose measurements differ by at least the tolerance: concordant minus discordant
        pairs, divided by the number of such pairs. None if there are no such pairs.
    spearman_of_groups
        Spearman's rho with groups. Measurements that cannot be distinguished share their mean rank, and so do their
        predictions. Before this, equal values share their rank. None if all values are equal on either side.
    percentage_error
        Mean of |predicted - measured| / measured, in per cent.
    num_pairs, num_distinct
        Number of pairs, and of pairs that can be distinguished.
    """

    spearman: float | None
    kendall: float | None
    concordance: float | None
    spearman_of_groups: float | None
    percentage_error: float
    num_pairs: int
    num_distinct: int

    @property
    def verdict(self) -> str:
        """Whether the orders can be distinguished at all."""
        return INDISTINGUISHABLE if self.num_distinct == 0 else f"{self.num_distinct} of {self.num_pairs} pairs differ"

    def __str__(self) -> str:
        def text(value: float | None) -> str:
            return "-" if value is None else f"{value:.2f}"

        return (
            f"{self.verdict}; Spearman {text(self.spearman)} ({text(self.spearman_of_groups)} in groups), Kendall "
            f"{text(self.kendall)} ({text(self.concordance)} of distinct pairs), error {self.percentage_error:.1f} %"
        )


def agreement(predicted: Sequence[float], measured: Sequence[float], *, tolerance: float = 0.0) -> Agreement:
    """Compare predictions with measurements.

    Parameters
    ----------
    predicted, measured
        Of equal length, at least 2. Measured values must be above 0.
    tolerance
        Measurements that differ by less than this cannot be distinguished.

    Raises
    ------
    ValueError
        If the lengths differ or there are fewer than two values.

    Examples
    --------
    >>> found = agreement([1.0, 2.0, 4.0], [1.1, 2.0, 3.9], tolerance=0.5)
    >>> found.spearman, found.concordance, found.num_distinct
    (1.0, 1.0, 3)
    """
    p, m = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    if p.shape != m.shape or p.ndim != 1 or len(p) < 2:
        raise ValueError("give at least two predictions and as many measurements")
    pairs = list(combinations(range(len(p)), 2))
    distinct = [(i, j) for i, j in pairs if abs(m[i] - m[j]) >= tolerance and m[i] != m[j]]
    signs = [float(np.sign(p[i] - p[j]) * np.sign(m[i] - m[j])) for i, j in distinct]
    groups = groups_of(m, tolerance)
    return Agreement(
        _coefficient(spearmanr, p, m),
        _coefficient(kendalltau, p, m),
        float(np.mean(signs)) if signs else None,
        _coefficient(spearmanr, _mean_by_group(rankdata(p), groups), _mean_by_group(rankdata(m), groups)),
        float(100 * np.mean(np.abs(p - m) / m)),
        len(pairs),
        len(distinct),
    )


def worst_ranked_pair(
    predicted: Sequence[float], measured: Sequence[float], *, tolerance: float = 0.0
) -> tuple[int, int] | None:
    """The two values with the worst ranking error: first the faster one, then the slower one, as measured.

    It considers pairs in different groups (`groups_of`) that are predicted as equal or in the wrong order. Of these, it
    takes the pair whose measured difference exceeds the predicted one the most. None if there are no such pairs.

    Parameters
    ----------
    predicted, measured, tolerance
        As for `agreement`.

    Examples
    --------
    >>> worst_ranked_pair([1.0, 2.0, 3.0, 2.5], [1.0, 2.0, 3.0, 5.0], tolerance=0.5)
    (2, 3)
    """
    p, m = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    groups = groups_of(m, tolerance)
    wrong = [(i, j) for i, j in permutations(range(len(p)), 2) if groups[i] < groups[j] and p[i] >= p[j]]
    return max(wrong, key=lambda pair: (m - p)[pair[1]] - (m - p)[pair[0]], default=None)


def groups_of(measured: np.ndarray, tolerance: float) -> np.ndarray:
    """Group of every value. From the smallest value on, a group has all values within the tolerance of its first value.

    Examples
    --------
    >>> groups_of(np.array([1.0, 3.0, 1.4, 1.6]), 0.5).tolist()
    [0, 2, 0, 1]
    """
    groups = np.zeros(len(measured), dtype=np.int64)
    first, number = None, -1
    for i in np.argsort(measured, kind="stable"):
        if first is None or measured[i] - first >= max(tolerance, np.finfo(float).tiny):
            first, number = measured[i], number + 1
        groups[i] = number
    return groups


def _mean_by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    means = np.bincount(groups, weights=values) / np.bincount(groups)
    result: np.ndarray = means[groups]
    return result


def _coefficient(function: object, a: np.ndarray, b: np.ndarray) -> float | None:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(function(a, b).statistic)  # type: ignore[operator]
