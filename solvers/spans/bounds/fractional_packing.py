"""A near-optimal fractional packing: weights of sets, as large as capacities allow, and prices that say what is scarce.

    maximise sum of y[k],   sum of y[k] over the sets k that have element e <= capacity[e],   y >= 0

The primal-dual hybrid gradient method with diagonal steps solves it, restarted from its averages (Chambolle and Pock
2011; Applegate et al., "Practical large-scale linear programming using primal-dual hybrid gradient", NeurIPS 2021).
Vertices are not wanted: prices from the middle of the optimal face find better sets next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from solvers.common.clock import WORK_OF_PAIR, time_now

_STEPS_TO_AVERAGE = 100  # steps: between two looks at the averages; by hand
_LOOKS_TO_RESTART = 4  # looks: at the averages between two restarts; by hand
_CLOSE = 1e-3  # share: of the bound that it may lie below the least cost of a cover; by hand


@dataclass(frozen=True, eq=False)
class Packing:
    """A packing that keeps to the capacities up to rounding.

    Attributes
    ----------
    weight
        float64, shape (num_sets,): of each set, not negative.
    price
        float64, shape (num_elements,): a fractional choice of elements that hits every set about once.
    """

    weight: np.ndarray
    price: np.ndarray


def packed(
    sets: csr_matrix, capacity: np.ndarray, start: Packing | None = None, *, most_steps: int, deadline: float
) -> Packing:
    """The best packing found.

    Parameters
    ----------
    sets
        0 or 1, shape (num_sets, num_elements): the elements of each set, at least one.
    capacity
        float64, shape (num_elements,), above 0.
    start
        Where to begin, of the same shape.
    most_steps
        Steps at most.
    deadline
        A `time.perf_counter` reading; at least the first look at the averages is reached.

    Examples
    --------
    >>> triangle = csr_matrix(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]))
    >>> best = packed(triangle, np.array([1.0, 1.0, 2.0]), most_steps=800, deadline=np.inf)
    >>> round(float(best.weight.sum()), 2), bool((triangle.T @ best.weight <= [1.001, 1.001, 2.001]).all())
    (2.0, True)
    """
    num_sets, num_elements = sets.shape
    scaled = sets.multiply(1 / capacity[np.newaxis, :]).tocsr()
    loads = scaled.T.tocsr()
    step = 1 / np.maximum(np.asarray(scaled.sum(axis=0)).ravel(), 1e-12)
    step_weight = 1 / np.asarray(scaled.sum(axis=1)).ravel()
    use = np.zeros(num_elements) if start is None else start.price * capacity
    weight = np.zeros(num_sets) if start is None else start.weight.copy()
    sum_use, sum_weight, since = np.zeros(num_elements), np.zeros(num_sets), 0
    best, best_use, least_cover, looks = np.zeros(num_sets), use, np.inf, 0
    work = WORK_OF_PAIR * 2 * scaled.nnz * _STEPS_TO_AVERAGE
    for k in range(1, most_steps + 1):
        before = use
        use = np.maximum(use - step * (1 - loads @ weight), 0)
        weight = np.maximum(weight + step_weight * (1 - scaled @ (2 * use - before)), 0)
        sum_use, sum_weight, since = sum_use + use, sum_weight + weight, since + 1
        if k % _STEPS_TO_AVERAGE:
            continue
        mean_use, mean_weight = sum_use / since, sum_weight / since
        for own_use, own in ((mean_use, mean_weight), (use, weight)):
            fitting = _fitted(scaled, loads, own)
            if fitting.sum() > best.sum():
                best, best_use = fitting, own_use
            hit = float((scaled @ own_use).min())
            if hit > 0:
                least_cover = min(least_cover, float(own_use.sum()) / hit)
        if best.sum() >= (1 - _CLOSE) * least_cover or time_now(work) >= deadline:
            break
        looks += 1
        if looks % _LOOKS_TO_RESTART == 0:
            use, weight = mean_use, mean_weight
            sum_use, sum_weight, since = np.zeros(num_elements), np.zeros(num_sets), 0
    return Packing(best, best_use / capacity)


def _fitted(scaled: csr_matrix, loads: csr_matrix, weight: np.ndarray) -> np.ndarray:
    """The weights cut down so that no element carries more than it can: each set by its fullest element."""
    load = np.maximum(loads @ weight, 1.0)
    fullest = np.maximum.reduceat(load[scaled.indices], scaled.indptr[:-1])
    fitting: np.ndarray = weight / fullest
    return fitting
