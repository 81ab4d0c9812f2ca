"""The cells to compare: networks, methods, modes and amounts. Also the epochs of every training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn

from benchmarks.digits import Dense, Inverted, Residual
from upscale_opt.arguments.modes import CONSTRAINED, INPUT, OUTPUT
from upscale_opt.learning.bip import Bip
from upscale_opt.learning.gap import Gap
from upscale_opt.learning.recipes import Recipe


def residual() -> nn.Module:
    """Three stages of two residual blocks, 16 to 64 channels."""
    return Residual((16, 32, 64), (2, 2, 2))


def dense() -> nn.Module:
    """Two dense blocks of four and six layers that add eight channels each."""
    return Dense(8, (4, 6))


def inverted() -> nn.Module:
    """Three stages of two inverted residuals, 12 to 32 channels, expanded by four."""
    return Inverted((12, 20, 32), (2, 2, 2))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": residual, "dense": dense, "inverted": inverted}
"""The networks of `benchmarks.digits`, but narrower, because hundreds of them are trained."""

BIP, CGAP, PGAP = LEARNT = ("bip", "cgap", "pgap")
IMPORTANCES = ("l1", "l2", "lamp", "fpgm", "hrank", "bn-scale", "taylor", "random")
SCOPES = {"lamp": "global"}
"""Importances with one threshold for the whole network. All others rank each layer by itself."""
MODES = (INPUT, CONSTRAINED, OUTPUT)
AMOUNTS = ("0.1", "0.3", "0.5", "0.7", "0.9")
SEEDS = (0, 1, 2)

DENSE = Recipe(epochs=12)
TUNING = Recipe(epochs=6, seed=10**6)
LEARNING = Recipe(epochs=4, seed=10**6)
"""Epochs of BiP, from the dense network. The first two learn masks and cost as much as four, so six in all."""
GROWING = Recipe(epochs=3)
"""Epochs of a step of GaP, from scratch. With four partitions, one round and the fine-tuning: eighteen in all."""
BIP_SETTINGS, GAP_SETTINGS = Bip(), Gap(partitions=4, rounds=1, processes=0)
NUM_IMAGES = 256
"""That importances look at."""


@dataclass(frozen=True)
class Cell:
    """One masked network.

    Attributes
    ----------
    network
        One of `NETWORKS`.
    seed
        Seed of its weights, of the order of images, and of all other random choices.
    method
        An importance, or one of `LEARNT`.
    mode
        Which masks are made: of inputs, of outputs, or constrained.
    amount
        Share of channels that are removed.
    """

    network: str
    seed: int
    method: str
    mode: str
    amount: str

    @property
    def key(self) -> tuple[str, ...]:
        """The values of all fields, as text in the file."""
        return tuple(str(getattr(self, own.name)) for own in fields(self))

    @property
    def scope(self) -> str:
        """``local`` or ``global``."""
        return SCOPES.get(self.method, "local")

    def masks_in(self, work: Path) -> Path:
        """The file of its masks."""
        return work / "masks" / f"{'-'.join(self.key)}.json"


KEY = tuple(own.name for own in fields(Cell))


def weights_in(work: Path, network: str, seed: int) -> Path:
    """The file of a dense network's weights."""
    return work / "dense" / f"{network}-{seed}.safetensors"


def cells_of(
    networks: Iterable[str], seeds: Iterable[int], methods: Iterable[str], modes: Iterable[str], amounts: Iterable[str]
) -> list[Cell]:
    """All cells. Masks are learnt for inputs only. The amount is the outermost loop, so all curves grow together."""
    methods, modes, networks, seeds = list(methods), list(modes), list(networks), list(seeds)
    return [
        Cell(network, seed, method, mode, amount)
        for amount in amounts
        for method in methods
        for mode in modes
        for seed in seeds
        for network in networks
        if mode == INPUT or method not in LEARNT
    ]


def fresh(network: str, seed: int) -> nn.Module:
    """An untrained network, in eval mode; torch's generator is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network]().eval()
