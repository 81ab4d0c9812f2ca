"""The cells to compare: networks, targets, methods, backends, batch sizes and budgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from benchmarks.speedup.networks import IMAGENET_NETWORKS, NETWORKS

TIME, MACS = "time", "macs"
BUDGETS = (TIME, MACS)
"""What the target is about: measured time, or multiply-accumulates."""
UNIFORM, HALP, MDP, JOINT, WINDOWS, SPDY = "uniform", "halp", "mdp", "joint", "windows", "spdy"
MASKS, TORCH_PRUNING = "masks", "torch-pruning"
METHODS = {
    UNIFORM: "constrained, the same share of every block",
    HALP: "HALP-like: knapsack with tables in one dimension",
    MDP: "MDP-like: outer approximation",
    SPDY: "SPDY: input channels per layer by dynamic programming",
    JOINT: "joint widths",
    WINDOWS: "joint widths and windows",
    MASKS: "masks of every consumer's own, exact order",
    TORCH_PRUNING: "Torch-Pruning: group norm, global, rounded to 8",
}
DEFAULT_METHODS = (UNIFORM, HALP, SPDY, JOINT, WINDOWS, MASKS, TORCH_PRUNING)
TARGETS = ("1.33", "2", "3")
BACKENDS = ("eager", "onnxruntime")
BATCHES = (1, 8)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Cell:
    """One network to make.

    Attributes
    ----------
    network
        One of `benchmarks.speedup.networks.NETWORKS`.
    seed
        Of its training; 0 for networks with ImageNet weights.
    budget
        One of `BUDGETS`.
    target
        How many times as fast, or how many times fewer multiply-accumulates, as text.
    backend, batch
        How time is measured.
    method
        One of `METHODS`.
    """

    network: str
    seed: int
    budget: str
    target: str
    backend: str
    batch: int
    method: str

    @property
    def key(self) -> tuple[str, ...]:
        """The values of all fields, as text."""
        return tuple(str(getattr(self, own.name)) for own in fields(self))

    @property
    def name(self) -> str:
        """A name for files and messages."""
        return "-".join(self.key)


KEY = tuple(own.name for own in fields(Cell))


def cells_of(
    networks: Iterable[str] = NETWORKS,
    seeds: Iterable[int] = SEEDS,
    budgets: Iterable[str] = BUDGETS,
    targets: Iterable[str] = TARGETS,
    backends: Iterable[str] = BACKENDS,
    batches: Iterable[int] = BATCHES,
    methods: Iterable[str] = DEFAULT_METHODS,
) -> list[Cell]:
    """All cells. Methods are the innermost loop and seeds an outer one, so that comparisons are complete early.

    Multiply-accumulates do not depend on backend and batch size, so the first of each is used for them.

    Examples
    --------
    >>> found = cells_of(["mobilenet_v2"], [0, 1], ["time", "macs"], ["2"], ["eager"], [1, 8], ["joint"])
    >>> [(own.seed, own.budget, own.batch) for own in found]
    [(0, 'time', 1), (0, 'time', 8), (0, 'macs', 1)]
    """
    networks, seeds, targets, methods = list(networks), list(seeds), list(targets), list(methods)
    conditions = [(backend, batch) for backend in backends for batch in batches]
    return [
        Cell(network, seed, budget, target, backend, batch, method)
        for budget in budgets
        for seed in seeds
        for backend, batch in (conditions if budget == TIME else conditions[:1])
        for network in networks
        for target in targets
        for method in methods
        if network not in IMAGENET_NETWORKS or seed == seeds[0]
    ]
