"""The residual network of the digits, trained: ``--model benchmarks/speedup/digits_net.py:make``.

The weights are made by a command, in about a minute:

    python -m benchmarks.speedup.digits_net

It learns from the training images of ``digits``, so the test images of ``--data digits`` are new to it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from problems.files import write_bytes_atomically
from upscale_opt.errors import ModelError, UpscaleError
from upscale_opt.learning.datasets import DIGITS, load_data
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.models.python_files import function_in

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "build" / "speedup" / "weights" / "digits_net.safetensors"
COMMAND = "python -m benchmarks.speedup.digits_net"
RECIPE = Recipe(epochs=12)


def make() -> nn.Module:
    """The trained network, in eval mode.

    Raises
    ------
    ModelError
        If its weights were not made yet.
    """
    if not WEIGHTS.exists():
        raise ModelError(f"the weights are not made yet; run in {ROOT}: {COMMAND}")
    network = _untrained()
    network.load_state_dict(load_file(WEIGHTS))
    return network


def _untrained() -> nn.Module:
    # The file is found by its place, since it may be loaded where `benchmarks` cannot be imported.
    network: nn.Module = function_in(ROOT / "benchmarks" / "digits.py", "Residual", "network", ModelError)()
    return network.eval()


def main() -> int:
    """Train the network and keep its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE.seed)
        network = _untrained()
    try:
        epochs = fit(network, load_data(DIGITS), [RECIPE], progress=True)
    except UpscaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    state = {name: own.contiguous() for name, own in network.state_dict().items()}
    write_bytes_atomically(save(state), WEIGHTS)
    print(f"{WEIGHTS}: {epochs[-1].test}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
