"""The networks of the sweep, smallest first, and the input each is verified on.

Inputs are small where the network accepts them: channels do not depend on height and width.
"""

from __future__ import annotations

import importlib
from typing import Any

from upscale_opt.models.loading import import_torchvision

FAMILIES = ("classification", "segmentation", "timm")
SIZES = {"vit_": 224, "maxvit_": 224, "swin_": 112, "inception_v3": 160, "efficientnet_": 128}
"""Height and width of inputs, by the start of names. Some networks take only one size; some need several windows."""
SMALL = 64


def names(family: str) -> list[str]:
    """The models of a family: by number of parameters, timm's by name."""
    if family == "timm":
        from benchmarks.coverage.timm_families import MEMBERS

        return [f"timm:{name}" for name in MEMBERS.values()]
    models: Any = importlib.import_module(f"{import_torchvision().__name__}.models")
    module = models if family == "classification" else models.segmentation
    sizes = {name: models.get_model_weights(name).DEFAULT.meta["num_params"] for name in models.list_models(module)}
    return sorted(sizes, key=sizes.__getitem__)


def input_shape(name: str) -> tuple[int, ...]:
    """Shape of the example input of a model of the sweep, batch included."""
    if name.startswith("timm:"):
        from benchmarks.coverage.timm_families import INPUT_SIZES

        size = INPUT_SIZES.get(name.removeprefix("timm:"), SMALL)
    else:
        size = next((size for start, size in SIZES.items() if name.startswith(start)), SMALL)
    return (1, 3, size, size)
