"""Chooses levels by loss: a search over error coefficients, scored by stitched models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from problems import AllocationProblem
from problems.showing.progress import ProgressBar, ShowProgress
from solvers import Allocation, SearchProgress, allocate, search_allocation
from solvers.allocation.buckets import DEFAULT_BUCKETS
from upscale_opt.errors import MaskError
from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import frozen_copy
from upscale_opt.spdy.prunable_layers import PrunableLayer
from upscale_opt.spdy.stitching import Loss, Stitching, mean_loss


@dataclass(frozen=True)
class CoefficientSearch:
    """Settings of the search over coefficients; see `solvers.search_allocation`.

    Parameters
    ----------
    num_random, patience, share
        Number of random coefficient vectors at the start. Failures in a row before fewer coefficients are redrawn.
        Share of layers whose coefficients are redrawn at first. If `num_random` and `patience` are 0, only equal
        coefficients are used.
    method, num_buckets
        As for `solvers.allocate`.
    seed
        Seed of all random numbers.

    Raises
    ------
    MaskError
        If a value is invalid.
    """

    num_random: int = 100
    patience: int = 100
    share: float = 0.1
    method: str = "dynamic-programme"
    num_buckets: int = DEFAULT_BUCKETS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_random < 0 or self.patience < 0 or not 0 <= self.share <= 1 or self.seed < 0:
            raise MaskError(
                f"num_random {self.num_random}, patience {self.patience}, share {self.share} and seed {self.seed} make "
                "no sense together; give whole numbers from 0 on, and a share in [0, 1]"
            )

    @property
    def is_off(self) -> bool:
        """Whether only equal coefficients are used."""
        return self.num_random == 0 and self.patience == 0


@dataclass(frozen=True)
class Choice:
    """A choice of levels and its loss.

    Attributes
    ----------
    allocation
        The levels.
    score
        Loss of the stitched model.
    uniform_score
        Loss of the choice under equal coefficients. It is never less than `score`.
    coefficients
        One coefficient per layer.
    num_scored
        Number of different choices whose loss was computed for this one.
    """

    allocation: Allocation
    score: float
    uniform_score: float
    coefficients: tuple[float, ...]
    num_scored: int


class ChoiceSearch:
    """Solves problems over the same layers and levels. Computes the loss of each choice only once.

    Parameters
    ----------
    stitching
        The stitched model that gets the levels.
    layers
        The layers of the problems, in the problems' order.
    data, loss
        Data and loss of the score.
    settings
        Settings of the search.
    progress
        Show what is done. Default: on a terminal and in a notebook (`problems.showing.progress`).
    """

    def __init__(
        self,
        stitching: Stitching,
        layers: Sequence[PrunableLayer],
        data: CalibrationData,
        loss: Loss | None,
        settings: CoefficientSearch,
        *,
        progress: ShowProgress = None,
    ) -> None:
        self._stitching, self._layers, self._data, self._loss = stitching, tuple(layers), data, loss
        self.settings, self._progress = settings, progress
        self._scores: dict[tuple[tuple[str, int], ...], float] = {}

    def solve(self, problem: AllocationProblem) -> Choice:
        """The choice with the least loss that was found. It has the least summed error under its coefficients.

        Raises
        ------
        SolverError
            If the method does not exist, or there are fewer buckets than layers.
        """
        own, before = self.settings, len(self._scores)
        method, num_buckets = own.method, own.num_buckets
        if own.is_off:
            allocation = allocate(problem, method, num_buckets=num_buckets)
            score = self._score(problem, allocation.levels)
            return Choice(allocation, score, score, (1.0,) * problem.num_layers, len(self._scores) - before)
        least = 1 + own.num_random + own.patience * max(1, round(own.share * problem.num_layers))
        with ProgressBar[None]("search", total=least, unit="choice", progress=self._progress) as bar:

            def show(state: SearchProgress) -> None:
                bar.note(f"loss {state.score:.4g}, radius {state.radius}")
                bar.advance(total=max(least, state.num_tried))

            found = search_allocation(
                problem,
                lambda levels: self._score(problem, levels),
                np.random.default_rng(own.seed),
                num_random=own.num_random,
                patience=max(1, own.patience),
                share=own.share,
                method=method,
                num_buckets=num_buckets,
                progress=show,
            )
        if found.interrupted:
            raise KeyboardInterrupt
        return Choice(
            found.allocation, found.score, found.uniform_score, found.coefficients, len(self._scores) - before
        )

    def stitched(self, allocation: Allocation) -> tuple[nn.Module, dict[str, np.ndarray]]:
        """A separate model with the levels of a choice, and its masks."""
        self._stitching.put(self._kept(allocation.problem, allocation.levels))
        return frozen_copy(self._stitching.model), self._stitching.masks()

    def _score(self, problem: AllocationProblem, levels: Sequence[int]) -> float:
        kept = self._kept(problem, levels)
        key = tuple(kept.items())
        if key not in self._scores:
            self._stitching.put(kept)
            self._scores[key] = mean_loss(self._stitching.model, self._data, self._loss)
        return self._scores[key]

    def _kept(self, problem: AllocationProblem, levels: Sequence[int]) -> dict[str, int]:
        return {
            layer.name: layer.kept(own.sparsities[level])
            for layer, own, level in zip(self._layers, problem.layers, levels, strict=True)
        }
