"""Where and how carefully the steps measure: on a GPU, or on a CPU to see that they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upscale_opt.latency.calibration import Effort

NETWORKS = {name: name for name in ("resnet50", "densenet121", "mobilenet_v2")}
_FILE = Path(__file__).parents[2] / "tests" / "upscale_opt" / "networks.py"
SMALL = {
    "resnet50": f"{_FILE}:Residual",
    "densenet121": f"{_FILE}:Dense",
    "mobilenet_v2": f"{_FILE}:Inverted",
}


@dataclass(frozen=True)
class Setting:
    """What all steps have in common.

    Attributes
    ----------
    out, tables
        Directories: of what is measured, and of cost tables.
    commit
        Of the code.
    device, backend
        Where models run, and how.
    networks
        What a name in a table stands for.
    image, batch
        Side of the images, and the largest batch that is measured whatever a step asks for; None for no limit.
    runs, copies, time_limit
        As of `upscale_opt.comparing.order_checks.check_orders`.
    effort
        Of calibrations.
    side, channels
        The largest height, and the largest number of channels, of single layers; None for no limit.
    """

    out: Path
    tables: Path
    commit: str
    device: str = "cuda"
    backend: str = "cuda-graph"
    networks: Mapping[str, str] = field(default_factory=lambda: dict(NETWORKS))
    image: int = 224
    batch: int | None = None
    runs: int = 21
    copies: int = 2
    time_limit: float = 0.3
    effort: Effort = field(default_factory=lambda: Effort(spans=3, rounds=6, sweeps=1, seconds=0.0005, copies=2))
    side: int | None = None
    channels: int | None = None

    @classmethod
    def dry(cls, out: Path, tables: Path, commit: str) -> Setting:
        """One that needs no GPU and little time: small networks on a CPU, whose figures mean nothing."""
        return cls(
            *(out, tables, commit, "cpu", "eager", dict(SMALL)),
            image=32,
            batch=2,
            runs=2,
            copies=1,
            effort=Effort(spans=1, rounds=2, sweeps=1, seconds=0.0, copies=1),
            side=4,
            channels=32,
        )

    def batch_of(self, wanted: int) -> int:
        """The batch that is measured where a step asks for this one."""
        return wanted if self.batch is None else min(wanted, self.batch)
