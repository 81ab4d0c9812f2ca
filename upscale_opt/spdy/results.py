"""The result of SPDY: a profile, masks, weights, and a comparison of predicted and measured times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from problems import AllocationProblem, TimingTable, write_sparsity_profile, write_timing_table
from problems.files import write_bytes_atomically
from problems.showing.reprs import shown_as
from solvers import Allocation
from upscale_opt.errors import MaskError
from upscale_opt.planning.mask_files import save_masks
from upscale_opt.rewriting.exports import WEIGHTS_FILE, Exported
from upscale_opt.showing.cards import speedup_allocation_card
from upscale_opt.spdy.global_adaprune import Tuned
from upscale_opt.spdy.outer_rounds import Round

PROFILE_FILE, MASKS_FILE, TIMES_FILE = "profile.txt", "masks.json", "timings.txt"


@shown_as(speedup_allocation_card)
@dataclass(frozen=True, eq=False)
class SpeedupAllocation:
    """A sparsity per layer for a speedup, with masks and weights.

    Attributes
    ----------
    speedup
        The target speedup.
    profile
        Layer name to sparsity.
    masks
        Weight name to Boolean array over input channels, True = kept, for the layers of the profile.
    state
        The state_dict, in the shapes of the dense model. Columns that masks drop are exactly zero.
    table
        The times of the first round.
    problem
        The problem of the first round, with its base, fixed time, budget, and largest speedup.
    rounds
        The rounds of the outer loop, in order. Empty if nothing was measured.
    allocation
        The choice.
    score, uniform_score, dense_score
        Mean losses on the calibration data. `score` is of the stitched model before any global AdaPrune.
        `uniform_score` is of the choice under equal coefficients; it is never less than `score`. `dense_score` is of
        the dense model.
    coefficients
        The coefficients that were found, one per layer of the problem, in the last round.
    final_score
        The loss with `state`. It differs from `score` only after global AdaPrune.
    held_out
        Mean losses on held-out data, of the dense model and with `state`. None if there is no such data.
    exported
        The verified export of masks and weights. None if nothing was measured.
    tuned
        The result of global AdaPrune. None without it.
    notes
        Messages of the run.
    """

    speedup: float
    profile: Mapping[str, float]
    masks: Mapping[str, np.ndarray]
    state: Mapping[str, torch.Tensor]
    table: TimingTable
    problem: AllocationProblem
    rounds: tuple[Round, ...]
    allocation: Allocation
    score: float
    uniform_score: float
    dense_score: float
    coefficients: tuple[float, ...]
    final_score: float
    held_out: tuple[float, float] | None = None
    exported: Exported | None = None
    tuned: Tuned | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def base(self) -> float:
        """Seconds of the dense model."""
        return self.problem.base

    @property
    def target(self) -> float:
        """Seconds that the whole model may take."""
        return self.base / self.speedup

    @property
    def predicted(self) -> float:
        """Seconds of the whole model by the times of the taken round. Never above `target`, except for rounding."""
        return self.allocation.problem.fixed + self.allocation.time

    @property
    def predicted_by_table(self) -> float:
        """Seconds of the whole model by the table of the first round, for any taken round."""
        levels = self.problem.choice_of(self.profile)
        return self.problem.fixed + self.problem.evaluate(levels).time

    @property
    def max_speedup(self) -> float:
        """The largest speedup that the table allows."""
        return self.problem.max_speedup

    def __str__(self) -> str:
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        lines = [
            f"speedup {self.speedup:g} asked for, {self.base / self.predicted:.4g} predicted, "
            f"{self.max_speedup:.4g} at most; {len(self.masks)} layers keep {kept} of "
            f"{sum(map(len, self.masks.values()))} input channels",
            f"loss {self.final_score:.4g} (dense {self.dense_score:.4g}, equal coefficients {self.uniform_score:.4g}, "
            f"found {self.score:.4g})",
        ]
        if self.held_out is not None:
            lines.append(f"held out: loss {self.held_out[1]:.4g} (dense {self.held_out[0]:.4g})")
        lines += [f"round {i}: {own}" for i, own in enumerate(self.rounds, start=1)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without masks and weights. These have separate files."""
        return {
            "speedup": self.speedup,
            "max_speedup": self.max_speedup,
            "base": self.base,
            "target": self.target,
            "predicted": self.predicted,
            "predicted_by_table": self.predicted_by_table,
            "fixed": self.allocation.problem.fixed,
            "profile": dict(self.profile),
            "score": self.score,
            "uniform_score": self.uniform_score,
            "dense_score": self.dense_score,
            "final_score": self.final_score,
            "held_out": self.held_out,
            "coefficients": list(self.coefficients),
            "rounds": [own.to_dict() for own in self.rounds],
            "notes": list(self.notes),
        }

    def save(self, directory: str | Path) -> None:
        """Write ``profile.txt``, ``masks.json``, ``model.safetensors`` (the state) and ``timings.txt``.

        The directory is created if necessary. Each file is written atomically.

        Raises
        ------
        ProblemError
            If a file cannot be written.
        """
        from safetensors.torch import save

        content = save({name: tensor.cpu().contiguous().clone() for name, tensor in self.state.items()})
        folder = Path(directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaskError(f"cannot write to {directory}: {error.strerror}; choose another directory") from error
        write_bytes_atomically(content, folder / WEIGHTS_FILE)
        save_masks(self.masks, folder / MASKS_FILE)
        write_sparsity_profile(self.profile, folder / PROFILE_FILE)
        write_timing_table(self.table, folder / TIMES_FILE)
