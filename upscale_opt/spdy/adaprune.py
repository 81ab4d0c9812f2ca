"""Layer-wise AdaPrune: trains the kept weights of every layer to reproduce the output of the dense layer.

Source: SPDY, Frantar and Alistarh, ICML 2022. AdaPrune itself is from Hubara et al., NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from upscale_opt.spdy.calibration_data import CalibrationData
from upscale_opt.spdy.layer_runs import layer_output, watched

_TINY = 1e-30


def adaprune(
    dense: nn.Module,
    start: Mapping[str, torch.Tensor],
    data: CalibrationData,
    generator: torch.Generator,
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    passes: int = 10,
) -> dict[str, torch.Tensor]:
    """Minimise ||layer(x; W) - y||^2 / ||y||^2 of every layer over its weight W. Zero columns stay zero.

    x and y are the inputs and outputs of the layer in the dense model. All layers are trained in the same runs of that
    model, but independently of each other, by one Adam optimiser.

    Parameters
    ----------
    dense
        The dense model, frozen. It is not changed.
    start
        Module name to the initial weight, where dropped columns (dimension 1) are zero.
    data
        Calibration images. The labels are not used.
    generator
        Random generator that shuffles the images.
    learning_rate, batch_size, passes
        Learning rate of Adam, images per step, and number of passes through the data.

    Returns
    -------
    dict
        Module name to the trained weight.
    """
    with torch.inference_mode(False):
        weights = {name: weight.detach().clone().requires_grad_() for name, weight in start.items()}
        kept = {name: kept_columns(weight).to(weight.dtype) for name, weight in start.items()}
        optimiser = torch.optim.Adam(weights.values(), lr=learning_rate)

        def learn(name: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
            with torch.enable_grad():
                loss = (layer_output(module, x, weights[name]) - y).square().sum() / y.square().sum().clamp(min=_TINY)
                loss.backward()

        with watched(dense, weights, learn), torch.no_grad():
            for _ in range(passes):
                for inputs, _ in data.batches(batch_size, generator):
                    optimiser.zero_grad()
                    dense(*inputs)
                    optimiser.step()
                    for name, weight in weights.items():
                        weight.mul_(kept[name])
    return {name: weight.detach() for name, weight in weights.items()}


def layer_errors(
    dense: nn.Module, weights: Mapping[str, tuple[torch.Tensor, ...]], data: CalibrationData, *, batch_size: int = 32
) -> dict[str, tuple[float, ...]]:
    """Relative errors ||layer(x; W) - y||^2 / ||y||^2 over all images, for several weights of every layer.

    Parameters
    ----------
    dense
        The dense model, frozen.
    weights
        Module name to weights.
    data, batch_size
        The images, and how many are processed at a time.
    """
    wrong = {name: torch.zeros(len(own), dtype=torch.float64) for name, own in weights.items()}
    right = dict.fromkeys(weights, 0.0)

    def look(name: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
        right[name] += float(y.double().square().sum())
        for k, weight in enumerate(weights[name]):
            wrong[name][k] += float((layer_output(module, x, weight) - y).double().square().sum())

    with watched(dense, weights, look), torch.no_grad():
        for inputs, _ in data.batches(batch_size):
            dense(*inputs)
    return {name: tuple((own / max(right[name], _TINY)).tolist()) for name, own in wrong.items()}


def kept_columns(weight: torch.Tensor) -> torch.Tensor:
    """The columns that are not zero; bool, of shape (1, columns, 1, ...), which broadcasts to the weight."""
    others = [d for d in range(weight.ndim) if d != 1]
    found: torch.Tensor = (weight != 0).sum(dim=others, keepdim=True) > 0
    return found
