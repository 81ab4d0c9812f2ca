"""Torch-Pruning, an optional package: what a user would take today.

Notes
-----
Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023: the group's L2 norm, one threshold for the whole
network, numbers of channels rounded to 8. The classifier keeps its outputs.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import warnings
from importlib import metadata

import torch
from torch import nn

from upscale_opt.errors import MaskError, first_line
from upscale_opt.models.running import in_modes

REQUIREMENT = "torch-pruning==1.6.1"
ROUND_TO = 8


def missing() -> str | None:
    """What to install; None if the package is there."""
    if importlib.util.find_spec("torch_pruning") is not None:
        return None
    return f"Torch-Pruning is missing; run: pip install {REQUIREMENT}"


def version() -> str:
    """The installed version; empty without."""
    try:
        return metadata.version("torch-pruning")
    except metadata.PackageNotFoundError:
        return ""


def copied(module: nn.Module) -> nn.Module:
    """A deep copy."""
    return copy.deepcopy(module)


def pruned(model: nn.Module, x: torch.Tensor, ratio: float) -> nn.Module:
    """A pruned copy of a network.

    Parameters
    ----------
    model
        The network in eval mode. It is not changed.
    x
        Its input.
    ratio
        Share of channels to remove, in [0, 1).

    Raises
    ------
    MaskError
        If Torch-Pruning fails on this network.
    """
    package = importlib.import_module("torch_pruning")
    own = copied(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = package.pruner.BasePruner(
                own,
                x,
                importance=package.importance.GroupMagnitudeImportance(p=2),
                global_pruning=True,
                pruning_ratio=ratio,
                round_to=ROUND_TO,
                ignored_layers=classifiers(own, x),
            )
            pruner.step()
        with in_modes(own, training=False), torch.no_grad():
            own(x)
    except Exception as error:  # any error: it is another package
        raise MaskError(f"Torch-Pruning fails at ratio {ratio:.3f} ({first_line(error)})") from error
    return own.eval()


def classifiers(model: nn.Module, x: torch.Tensor) -> list[nn.Module]:
    """The linear layers with as many outputs as the network: they must keep them."""
    with in_modes(model, training=False), torch.no_grad():
        classes = model(x).shape[1]
    return [own for own in model.modules() if isinstance(own, nn.Linear) and own.out_features == classes]
