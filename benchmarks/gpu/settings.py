"""Device and effort of the steps: on a GPU, or on a CPU as a test."""

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
    """Settings for all steps.

    Attributes
    ----------
    out, tables
        Directory for the results, and directory of cost tables.
    commit
        Commit of the code.
    device, backend
        Where models run, and how.
    networks
        Per name in a table, the network.
    image, batch
        Side of the images, and the largest batch that any step measures; None for no limit.
    runs, copies, time_limit
        As in `upscale_opt.comparing.order_checks.check_orders`.
    effort
        Effort of calibrations.
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
        """Settings for a test without a GPU: small networks on a CPU. Their figures have no meaning."""
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
        """The batch size that is measured if a step asks for this one."""
        return wanted if self.batch is None else min(wanted, self.batch)
