"""The subjects (masked networks), their cells (batch size and memory format), and the variants of each cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from upscale_opt.models.precisions import FLOAT32, dtype_of, settle

MASKED = "masked"
PEERS = ("peer-cat", "peer-index")
OWN = ("greedy-copies", "auto-latency")
VARIANTS = {
    MASKED: "the masked network itself, nothing removed: what the others must compute",
    "peer-cat": "apple-upscale's `PruningManager.prune()`, which joins slices with `torch.cat`",
    "peer-index": "its `prune(is_not_ane=True)`, which indexes with a list; its documentation advises that for GPUs",
    "greedy-copies": "our export of the order of solver `greedy` for the objective `copies`, the peer's own",
    "auto-latency": "our export of the order of solver `auto` for the objective `latency` (by analytic costs where "
    "time_limit is `plans`), read in the ways that the tables find cheapest",
}
"""Per name, the description. The order is that of the measurement."""

FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Subject:
    """A masked network on a device.

    Attributes
    ----------
    model
        Name for `upscale_opt.load_model`.
    amount
        Share of input channels that every consumer loses (L2 masks).
    seed
        Seed of weights, statistics, solvers and inputs.
    image_size
        Pixels per side of the input, which has three channels.
    device
        ``cpu`` or ``cuda``: where it is traced and measured.
    time_limit
        Seconds per segment and solver.
    plans
        Directory of plans from ``benchmarks.latency --plan-only``; None to solve.
    quick
        Calibrate with less effort.
    dtype
        Precision in which exports are made and timed (`upscale_opt.models.precisions`).
    """

    model: str
    amount: str
    seed: int
    image_size: int
    device: str
    time_limit: float
    plans: Path | None = None
    quick: bool = False
    dtype: str = FLOAT32

    def settle(self) -> torch.dtype:
        """The dtype of the exports; on a GPU, TF32 is switched on or off for the whole process."""
        return settle(self.dtype, torch.device(self.device))

    def images(self, batch: int, memory_format: str) -> torch.Tensor:
        """Normal random images on the device, in its dtype, shape (batch, 3, image_size, image_size)."""
        generator = torch.Generator().manual_seed(self.seed)
        images = torch.randn(batch, 3, self.image_size, self.image_size, generator=generator)
        return images.to(self.device, dtype_of(self.dtype)).to(memory_format=FORMATS[memory_format])

    @property
    def directory(self) -> str:
        """A name for the folder of its files."""
        parts = (self.model, self.amount, f"seed{self.seed}", f"{self.image_size}px", self.device, self.dtype)
        return re.sub(r"[^\w.-]+", "_", "-".join(parts))


@dataclass(frozen=True)
class Cell:
    """The conditions under which the variants of a subject are measured in turn.

    Attributes
    ----------
    subject
        The masked network.
    batch
        Number of images.
    memory_format
        ``NCHW`` or ``channels_last``, of images and weights.
    """

    subject: Subject
    batch: int
    memory_format: str

    def images(self) -> torch.Tensor:
        """The input; the same values in every memory format."""
        return self.subject.images(self.batch, self.memory_format)

    def file(self, directory: Path, variant: str) -> Path:
        """The TorchScript file of a variant."""
        return directory / f"{variant}-{self.batch}-{self.memory_format}.ts"

    def __str__(self) -> str:
        own = self.subject
        return f"{own.model} {own.amount} N={self.batch} {self.memory_format} {own.dtype}"
