"""The search over error coefficients: which of many best allocations does best in truth, as the caller's score says.

The summed errors are a guess of what pruning costs. Coefficients of layers vary the guess, the score judges it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from problems import AllocationProblem
from solvers.allocation.buckets import DEFAULT_BUCKETS
from solvers.allocation.dispatch import allocate
from solvers.allocation.result import Allocation
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError

Score = Callable[[tuple[int, ...]], float]
"""What a choice is worth, the less the better: the loss of the model pruned so, on data for calibration."""


@dataclass(frozen=True)
class SearchProgress:
    """What the search knows while it runs.

    Attributes
    ----------
    num_tried
        Coefficients tried so far.
    num_scored
        Different choices scored so far.
    radius
        Coefficients that are drawn anew at a time; None among the first, random ones.
    score
        The best so far.
    """

    num_tried: int
    num_scored: int
    radius: int | None
    score: float


@dataclass(frozen=True)
class SearchResult:
    """The best allocation found.

    Attributes
    ----------
    allocation
        Of least error under the coefficients.
    score
        What the caller's function says of its levels.
    uniform_score
        The same of the allocation under equal coefficients; never below `score`.
    coefficients
        One per layer, in [0, 1].
    num_tried, num_scored
        Coefficients tried, and different choices scored.
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
    progress: Callable[[SearchProgress], None] | None = None,
) -> SearchResult:
    """Look for coefficients whose allocation has a small score.

    First come equal coefficients (all 1), then random ones from U(0, 1). Then, for r = max(1, round(share * layers))
    down to 1, r coefficients of the best (drawn with replacement) are drawn anew, until that has failed `patience`
    times in a row. Only strictly smaller scores are taken. Ctrl-C ends the search with the best found so far.

    Parameters
    ----------
    problem
        Its errors are those under equal coefficients.
    score
        Called once for every different choice (`AllocationProblem.profile` has its sparsities). NaN counts as infinite.
    rng
        Source of all that is random: the same state gives the same result.
    num_random
        Random coefficients at the start. Default 100.
    patience
        Failures in a row before r falls. Default 100.
    share
        Of the layers, how many coefficients are drawn anew at first. Default 0.1.
    method, num_buckets
        As for `allocate`.
    progress
        Called with a `SearchProgress` after every allocation; its exceptions pass through, but for KeyboardInterrupt,
        which ends the search.

    Raises
    ------
    SolverError
        If a parameter makes no sense, or a method fails.
    KeyboardInterrupt
        If it comes before the first score.

    Notes
    -----
    The search of SPDY (Frantar and Alistarh, ICML 2022), where equal coefficients are not among the first.

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
    search = _Search(problem, score, method, num_buckets, progress)
    num_layers = problem.num_layers
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
    """The best so far, and the scores that are known."""

    def __init__(
        self,
        problem: AllocationProblem,
        score: Score,
        method: str,
        num_buckets: int,
        progress: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._problem, self._score, self._progress = problem, score, progress
        self._method, self._num_buckets = method, num_buckets
        self.scores: dict[tuple[int, ...], float] = {}
        self.trials: list[_Trial] = []
        self.num_tried = 0

    @property
    def best(self) -> _Trial:
        """The last of the trials that each improved on those before."""
        return self.trials[-1]

    def offer(self, coefficients: np.ndarray, radius: int | None = None) -> bool:
        """Try coefficients; whether they do strictly better than all before, or are the first."""
        problem = self._problem.weighted(coefficients.tolist())
        allocation = allocate(problem, self._method, num_buckets=self._num_buckets)
        score = self._score_of(allocation.levels)
        improves = not self.trials or score < self.best.score
        if improves:
            self.trials.append(_Trial(coefficients, allocation, score))
        self.num_tried += 1
        if self._progress is not None:
            self._progress(SearchProgress(self.num_tried, len(self.scores), radius, self.best.score))
        return improves

    def _score_of(self, choice: tuple[int, ...]) -> float:
        """The score of a choice, asked for once only."""
        if choice not in self.scores:
            score = float(self._score(choice))
            self.scores[choice] = math.inf if math.isnan(score) else score
        return self.scores[choice]
