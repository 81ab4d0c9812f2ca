"""All networks of the family by name: ``KIND/MEMBER``."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping

import torch

from benchmarks.coverage.wild.audio import AUDIO
from benchmarks.coverage.wild.detectors import YOLOS
from benchmarks.coverage.wild.generators import DIFFUSION, GANS
from benchmarks.coverage.wild.language import TRANSFORMERS
from benchmarks.coverage.wild.libraries import DETECTION, SEGMENTATION, TIMM, VIDEO
from benchmarks.coverage.wild.network import Network
from benchmarks.coverage.wild.other_detectors import OTHERS
from upscale_opt.models.loading import import_torchvision

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

_HEAVY = {"transformers": "transformers.modeling_utils", "diffusers": "diffusers.models.modeling_utils"}
"""Packages that import their large parts late, to these parts."""


def missing_packages() -> dict[str, list[str]]:
    """Packages that are not installed, with the full names of the networks that need them."""
    missing: dict[str, list[str]] = {}
    for name, own in NETWORKS.items():
        if own.package and importlib.util.find_spec(own.package) is None:
            missing.setdefault(own.package, []).append(name)
    return missing


def preload(names: Iterable[str]) -> None:
    """Import what these networks need, for processes that are forked later. Nothing is downloaded from a hub."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)  # threads do not survive a fork
    import_torchvision()
    for package in dict.fromkeys(NETWORKS[name].package for name in names):
        if package:
            importlib.import_module(_HEAVY.get(package, package))
