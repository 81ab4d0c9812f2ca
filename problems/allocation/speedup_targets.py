"""Allocation problems from timing tables: distinct levels, errors by rank, and the budget of a speedup."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from problems.allocation.problem import TOLERANCE, AllocationProblem, LayerLevels, place_of
from problems.allocation.sparsity_levels import distinct_levels, rank_errors
from problems.allocation.timing_tables import LayerTimes, TimingTable
from problems.conversions import objects, of_kind, real, reals
from problems.errors import ProblemError


def allocation_problem(
    table: TimingTable,
    speedup: float | None = None,
    *,
    dense: Collection[str] = (),
    counts: Mapping[str, Sequence[int]] | None = None,
    grid: Sequence[float] | None = None,
    coefficients: Mapping[str, float] | None = None,
    name: str = "allocation",
) -> AllocationProblem:
    """The problem of SPDY: times of a table, errors by rank, a budget from a speedup.

    The fixed time is the time of the dense model minus the dense times of the optimised layers. So layers that stay
    dense count as fixed, and so does everything that the table does not list. The budget is ``base / speedup - fixed``.

    Parameters
    ----------
    table
        The measured times.
    speedup
        The target for the whole model. Default: no target, so any time is allowed.
    dense
        Names of layers that stay dense (for example the first one). Default none.
    counts
        Per layer, how many channels each level of the table keeps (or removes). Of levels that keep equally many, the
        lowest stays (`distinct_levels`). Layers that are not named keep all levels. Default none.
    grid
        The list of levels in which ranks are counted, if the table lists only some of them. Default: per layer its
        own levels in the table.
    coefficients
        Per layer, the weight of its error. Default 1, also for layers that are not named.
    name
        Name for messages.

    Raises
    ------
    UnreachableSpeedupError
        If the target is above the largest possible speedup. The message names that speedup.
    ProblemError
        If names, counts or levels do not fit the table, or the layers take longer than the whole model.

    Notes
    -----
    Frantar and Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees", ICML 2022. The authors' program counts
    layers that it skips as free; this function does not.

    Examples
    --------
    >>> stem = LayerTimes("stem", (0, 0.5), (0.2, 0.1))
    >>> conv = LayerTimes("conv", (0, 0.5, 0.9), (0.7, 0.4, 0.2))
    >>> problem = allocation_problem(TimingTable((stem, conv), base=1.0), 2, dense=["stem"])
    >>> print(problem)
    allocation: 1 layers, 0.2 s for them and 0.3 s fixed; speedup 2 at most
    """
    known = {layer.name for layer in of_kind(table, TimingTable, "the timing table").layers}
    dense, grid = objects(dense, str, "dense"), None if grid is None else reals(grid, "grid")
    for what, given in (("counts", counts), ("coefficients", coefficients)):
        of_kind({} if given is None else given, Mapping, what)
    for what, names in (("dense", dense), ("counts", counts or ()), ("coefficients", coefficients or ())):
        for unknown in sorted(set(names) - known):
            raise ProblemError(f"{what} names layer {unknown!r}, which the timing table does not list; check the name")
    optimised = [layer for layer in table.layers if layer.name not in set(dense)]
    if not optimised:
        raise ProblemError("all layers of the timing table are to stay dense; leave at least one to optimise")
    layers = tuple(
        _layer_levels(layer, (counts or {}).get(layer.name), grid, (coefficients or {}).get(layer.name, 1.0))
        for layer in optimised
    )
    taken = table.dense_seconds(layer.name for layer in optimised)
    fixed = table.base - taken
    if fixed < -TOLERANCE * table.base:
        raise ProblemError(
            f"the layers take {taken:.6g} s dense, more than the {table.base:.6g} s of the whole model; measure both "
            "again, or raise the table's base to their sum"
        )
    slowest = math.fsum(max(layer.times) for layer in layers)
    problem = AllocationProblem(layers, table.base, slowest, max(fixed, 0.0), name)
    return problem if speedup is None else problem.for_speedup(speedup)


def _layer_levels(
    layer: LayerTimes, counts: Sequence[int] | None, grid: Sequence[float] | None, coefficient: float
) -> LayerLevels:
    """The distinct levels of a layer, with their errors."""
    if counts is not None and len(counts) != len(layer.seconds):
        raise ProblemError(
            f"layer {layer.name!r} has {len(layer.seconds)} levels in the table and {len(counts)} counts; one each"
        )
    levels = range(len(layer.seconds)) if counts is None else distinct_levels(counts)
    original = layer.sparsities if grid is None else tuple(sorted(grid))
    ranks = [k if grid is None else place_of(layer.name, layer.sparsities[k], original) for k in levels]
    return LayerLevels(
        layer.name,
        tuple(layer.sparsities[k] for k in levels),
        tuple(layer.seconds[k] for k in levels),
        rank_errors(ranks, len(original), real(coefficient, f"layer {layer.name!r}: coefficient")),
    )
