"""All networks of the family by name: ``KIND/MEMBER``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from benchmarks.coverage.wild.audio import AUDIO
from benchmarks.coverage.wild.detectors import YOLOS
from benchmarks.coverage.wild.generators import DIFFUSION, GANS
from benchmarks.coverage.wild.language import TRANSFORMERS
from benchmarks.coverage.wild.libraries import DETECTION, SEGMENTATION, TIMM, VIDEO
from benchmarks.coverage.wild.network import Network
from benchmarks.coverage.wild.other_detectors import OTHERS

KINDS: Mapping[str, Mapping[str, Network]] = {
    "detector": {**YOLOS, **OTHERS},
    "torchvision-detection": DETECTION,
    "segmentation": SEGMENTATION,
    "video": VIDEO,
    "audio": AUDIO,
    "gan": GANS,
    "diffusion": DIFFUSION,
    "transformers": TRANSFORMERS,
    "timm": TIMM,
}
"""Networks by kind and name."""

NETWORKS: Mapping[str, Network] = {
    f"{kind}/{name}": own for kind, found in KINDS.items() for name, own in found.items()
}
"""Networks by full name."""


def missing_packages() -> dict[str, list[str]]:
    """Packages that are not installed, with the full names of the networks that need them."""
    missing: dict[str, list[str]] = {}
    for name, own in NETWORKS.items():
        if own.package and importlib.util.find_spec(own.package) is None:
            missing.setdefault(own.package, []).append(name)
    return missing
