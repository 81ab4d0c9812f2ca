"""The search over error coefficients: it looks for the allocation with the smallest score.

The summed error is only an estimate of what pruning costs. Every choice of coefficients gives another allocation. The
caller's score compares these allocations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from problems import AllocationProblem
from problems.showing.reprs import shown
from solvers.allocation.buckets import DEFAULT_BUCKETS
from solvers.allocation.dispatch import allocate
from solvers.allocation.result import Allocation
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError
from solvers.showing.progress import shown_progress

Score = Callable[[tuple[int, ...]], float]
"""The score of a choice, to be minimised: for example the loss of the pruned model on calibration data."""


@shown
@dataclass(frozen=True)
class SearchProgress:
    """The state of the search while it runs.

    Attributes
    ----------
    num_tried
        Number of coefficient vectors tried so far.
    num_scored
        Number of different choices scored so far.
    radius
        Number of coefficients that a trial redraws; None during the first, random trials.
    score
        The best score so far.
    """

    num_tried: int
    num_scored: int
    radius: int | None
    score: float

    def __str__(self) -> str:
        return f"score {self.score:.4g} after {self.num_tried} coefficients and {self.num_scored} choices"


@shown
@dataclass(frozen=True)
class SearchResult:
    """The best allocation found.

    Attributes
    ----------
    allocation
        The allocation of least error under `coefficients`.
    score
        The caller's score of its levels.
    uniform_score
        The score of the allocation under equal coefficients; never below `score`.
    coefficients
        One per layer, in [0, 1].
    num_tried, num_scored
        Number of coefficient vectors tried, and of different choices scored.
    interrupted
        Whether Ctrl-C ended the search.
    """

    allocation: Allocation
    score: float
    uniform_score: float
    coefficients: tuple[float, ...]
    num_tried: int
    num_scored: int
    interrupted: bool

    def __str__(self) -> str:
        ended = ", interrupted" if self.interrupted else ""
        return (
            f"score {self.score:.6g} (uniform {self.uniform_score:.6g}) after {self.num_tried} coefficients and "
            f"{self.num_scored} choices{ended}; {self.allocation}"
        )


def search_allocation(
    problem: AllocationProblem,
    score: Score,
    rng: np.random.Generator,
    *,
    num_random: int = 100,
    patience: int = 100,
    share: float = 0.1,
    method: str = "dynamic-programme",
    num_buckets: int = DEFAULT_BUCKETS,
    progress: Callable[[SearchProgress], object] | bool | None = None,
) -> SearchResult:
    """Look for coefficients whose allocation has a small score.

    1. Try equal coefficients (all 1).
    2. Try `num_random` random vectors from U(0, 1).
    3. For r = max(1, round(share * layers)) down to 1: redraw r coefficients of the best vector (chosen with
       replacement), until `patience` trials in a row have failed.

    Only a strictly smaller score replaces the best. Ctrl-C ends the search with the best found so far.

    Parameters
    ----------
    problem
        The problem, with its errors under equal coefficients.
    score
        Called once for every different choice (`AllocationProblem.profile` gives its sparsities). NaN counts as
        infinite.
    rng
        The random generator. The same state gives the same result.
    num_random
        Number of random vectors at the start. Default 100.
    patience
        Failures in a row before r decreases. Default 100.
    share
        Share of the coefficients that is redrawn at first. Default 0.1.
    method, num_buckets
        As for `allocate`.
    progress
        A function is called with a `SearchProgress` after every allocation. Its exceptions are passed on, except
        KeyboardInterrupt, which ends the search. None, True or False: where a line shows it
        (`problems.showing.progress`).

    Raises
    ------
    SolverError
        If a parameter is out of its range, or a method fails.
    KeyboardInterrupt
        If the user interrupts before the first score.

    Notes
    -----
    The search of SPDY (Frantar and Alistarh, ICML 2022). SPDY does not try equal coefficients first.

    Examples
    --------
    >>> from problems import LayerTimes, TimingTable, allocation_problem
    >>> layers = [LayerTimes(name, (0, 0.5), (0.5, 0.1)) for name in "ab"]
    >>> problem = allocation_problem(TimingTable(layers, base=1.0), 1.6)
    >>> found = search_allocation(problem, lambda choice: choice[0], np.random.default_rng(0))
    >>> found.allocation.profile, found.score
    ({'a': 0.0, 'b': 0.5}, 0.0)
    """
    require_problem(problem, AllocationProblem)
    require_settings(score=score, rng=rng, num_random=num_random, patience=patience, share=share, progress=progress)
    require_settings(method=method, num_buckets=num_buckets)
    if num_random < 0 or patience < 1 or not 0 <= share <= 1:
        raise SolverError(
            f"num_random is {num_random}, patience {patience}, share {share}; give at least 0, at least 1, and a "
            "number in [0, 1]"
        )
    with shown_progress("search", progress, str) as tell:
        return _searched(_Search(problem, score, method, num_buckets, tell), rng, num_random, patience, share)


def _searched(search: _Search, rng: np.random.Generator, num_random: int, patience: int, share: float) -> SearchResult:
    num_layers = search.num_layers
    interrupted = False
    try:
        search.offer(np.ones(num_layers))
        for _ in range(num_random):
            search.offer(rng.random(num_layers))
        for radius in range(max(1, round(share * num_layers)), 0, -1):
            failures = 0
            while failures < patience:
                coefficients = search.best.coefficients.copy()
                coefficients[rng.integers(num_layers, size=radius)] = rng.random(radius)
                failures = 0 if search.offer(coefficients, radius) else failures + 1
    except KeyboardInterrupt:
        if not search.trials:
            raise
        interrupted = True
    return SearchResult(
        allocation=search.best.allocation,
        score=search.best.score,
        uniform_score=search.trials[0].score,
        coefficients=tuple(search.best.coefficients.tolist()),
        num_tried=search.num_tried,
        num_scored=len(search.scores),
        interrupted=interrupted,
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """Coefficients, the allocation under them, and its score."""

    coefficients: np.ndarray
    allocation: Allocation
    score: float


class _Search:
    """The best trial so far, and all known scores."""

    def __init__(
        self,
        problem: AllocationProblem,
        score: Score,
        method: str,
        num_buckets: int,
        progress: Callable[[SearchProgress], object],
    ) -> None:
        self._problem, self._score, self._progress = problem, score, progress
        self._method, self._num_buckets = method, num_buckets
        self.scores: dict[tuple[int, ...], float] = {}
        self.trials: list[_Trial] = []
        self.num_tried = 0
        self.num_layers = problem.num_layers

    @property
    def best(self) -> _Trial:
        """The best trial so far."""
        return self.trials[-1]

    def offer(self, coefficients: np.ndarray, radius: int | None = None) -> bool:
        """Try coefficients. Returns whether they are the first, or strictly better than all before."""
        problem = self._problem.weighted(coefficients.tolist())
        allocation = allocate(problem, self._method, num_buckets=self._num_buckets)
        score = self._score_of(allocation.levels)
        improves = not self.trials or score < self.best.score
        if improves:
            self.trials.append(_Trial(coefficients, allocation, score))
        self.num_tried += 1
        self._progress(SearchProgress(self.num_tried, len(self.scores), radius, self.best.score))
        return improves

    def _score_of(self, choice: tuple[int, ...]) -> float:
        """The score of a choice; the caller's function is called once per choice."""
        if choice not in self.scores:
            score = float(self._score(choice))
            self.scores[choice] = math.inf if math.isnan(score) else score
        return self.scores[choice]
