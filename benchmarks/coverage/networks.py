"""The networks of the sweep, smallest first, and the input each is verified on.

Inputs are small where the network accepts them: channels do not depend on height and width.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from upscale_opt import ModelReference, load_model, plain_weights
from upscale_opt.models.loading import import_torchvision

FAMILIES = ("classification", "segmentation", "timm", "wild")
SIZES = {"vit_": 224, "maxvit_": 224, "swin_": 112, "inception_v3": 160, "efficientnet_": 128}
"""Height and width of inputs, by the start of names. Some networks take only one size; some need several windows."""
SMALL = 64


def names(family: str) -> list[str]:
    """The models of a family: by number of parameters, timm's by name, the wild ones by kind (``KIND/MEMBER``)."""
    if family == "wild":
        from benchmarks.coverage.wild.catalogue import NETWORKS

        return list(NETWORKS)
    if family == "timm":
        from benchmarks.coverage.timm_families import MEMBERS

        return [f"timm:{name}" for name in MEMBERS.values()]
    models: Any = importlib.import_module(f"{import_torchvision().__name__}.models")
    module = models if family == "classification" else models.segmentation
    sizes = {name: models.get_model_weights(name).DEFAULT.meta["num_params"] for name in models.list_models(module)}
    return sorted(sizes, key=sizes.__getitem__)


def built(name: str, seed: int) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network in eval mode with random weights, and the positional inputs that it is traced with.

    The weights of wild networks are made plain first, as the commands do it.
    """
    if "/" not in name:
        shape = input_shape(name)
        return load_model(ModelReference(name, seed=seed, input_shape=shape)), (torch.zeros(shape),)
    from benchmarks.coverage.wild.catalogue import NETWORKS

    torch.manual_seed(seed)
    network = NETWORKS[name]
    return plain_weights(network.build().eval()), network.example_inputs()


def input_shape(name: str) -> tuple[int, ...]:
    """Shape of the example input of a model of the sweep, batch included."""
    if name.startswith("timm:"):
        from benchmarks.coverage.timm_families import INPUT_SIZES

        size = INPUT_SIZES.get(name.removeprefix("timm:"), SMALL)
    else:
        size = next((size for start, size in SIZES.items() if name.startswith(start)), SMALL)
    return (1, 3, size, size)
