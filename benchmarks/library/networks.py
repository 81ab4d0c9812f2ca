"""Instances from networks: torchvision's with random weights, and the small ones that `benchmarks.digits` trains.

Every segment in which two accesses keep different channels is a candidate. If an earlier segment has the same shape, it
is left out, because it differs only in the random masks.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.digits import NETWORKS, trained
from benchmarks.library.candidates import Candidate, Origin, shape, short_names, timed
from problems.signatures import masks_differ
from upscale_opt import Graph, ModelReference, effective_masks, extract, l2_masks, load_model, trace
from upscale_opt.arguments.amounts import num_removed

AMOUNTS = ("0.10", "0.25", "0.50", "0.75", "0.90")
CORRELATIONS = (0.3, 0.7, 0.95)
SEED = 0

LARGER_AMOUNTS = ("0.50",)
LARGER_CORRELATIONS = (0.7,)
"""What is there of the networks in `LARGER`, besides the masks `l2`: the directories that have cost tables, too."""

MODELS = (
    *("resnet18", "resnet50", "resnet101", "squeezenet1_1", "shufflenet_v2_x1_0", "googlenet", "inception_v3"),
    *("densenet121", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet1_3"),
    *("efficientnet_b0", "efficientnet_b3", "efficientnet_v2_s", "maxvit_t"),
    *("regnet_x_400mf", "regnet_x_1_6gf", "regnet_y_800mf", "regnet_y_3_2gf"),
    *("resnet34", "resnet152", "mnasnet0_5", "efficientnet_b1", "efficientnet_b2", "efficientnet_b4"),
    *("regnet_x_800mf", "regnet_y_400mf"),
)
"""Networks with all mask families and amounts: at least one size of every architecture."""

LARGER = (
    *("densenet161", "densenet169", "densenet201"),
    *("efficientnet_b5", "efficientnet_b6", "efficientnet_b7", "efficientnet_v2_m", "efficientnet_v2_l"),
    *("regnet_x_3_2gf", "regnet_x_8gf", "regnet_x_16gf", "regnet_x_32gf"),
    *("regnet_y_1_6gf", "regnet_y_8gf", "regnet_y_16gf", "regnet_y_32gf"),
)
"""Further sizes, with `LARGER_AMOUNTS` and `LARGER_CORRELATIONS` only. All of them would be 1100 more instances."""

GROUPED = ("resnext50_32x4d", "regnet_x_400mf", "regnet_y_400mf")
"""Networks whose grouped convolutions make bundles. Their segments are included even if only one access reads them."""

GROUPED_AMOUNTS = ("0.50", "0.75")

CONCAVE = ("l2-0.50", "corr-0.70-0.50", "trained-0.50")
"""Directories whose instances are also stored with concave cost tables."""

STEPS = ("l2-0.50",)
"""Directories whose instances are also stored with cost tables that have least launch times and steps."""


def torchvision_candidates(name: str, shapes: set[object]) -> Iterator[Candidate]:
    """The candidates of one torchvision network, in all mask families and amounts, or those that `LARGER` ones have.

    Parameters
    ----------
    name
        Name of the network.
    shapes
        Shapes of earlier segments. Those of the network are added.
    """
    graph = traced(load_model(ModelReference(name, seed=SEED)), 299 if name == "inception_v3" else 224)
    segments = new_segments(graph, shapes)
    amounts, correlations = (LARGER_AMOUNTS, LARGER_CORRELATIONS) if name in LARGER else (AMOUNTS, CORRELATIONS)
    for correlation in (None, *correlations):
        family = "l2" if correlation is None else f"corr-{correlation:.2f}"
        origin = Origin(family, f"torchvision.models.{name}", SEED, name)
        yield from graph_candidates(graph, segments, origin, amounts=amounts, correlation=correlation)


def grouped_candidates(name: str, shapes: set[object]) -> Iterator[Candidate]:
    """The candidates of one torchvision network whose groups may change places, in the family `grouped`.

    One access is enough, because its cost depends on which groups are at the ends of its input. Parameters as above.
    """
    graph = traced(load_model(ModelReference(name, seed=SEED)), 224)
    segments = new_segments(graph, shapes, bundles=True)
    origin = Origin("grouped", f"torchvision.models.{name}", SEED, name)
    yield from graph_candidates(graph, segments, origin, amounts=GROUPED_AMOUNTS, bundles=True)


def digits_candidates(name: str, shapes: set[object]) -> Iterator[Candidate]:
    """The candidates of one of the networks of `benchmarks.digits`. It is trained first. Parameters as above."""
    network = trained(name, seed=SEED)
    graph = traced(network.model, 8, channels=1)
    source = f"benchmarks.digits.{NETWORKS[name].__name__}, test accuracy {network.accuracy:.3f}"
    yield from graph_candidates(graph, new_segments(graph, shapes), Origin("trained", source, SEED, name))


def traced(model: nn.Module, size: int, *, channels: int = 3) -> Graph:
    """The graph of a network for a square input."""
    return trace(model, torch.zeros(1, channels, size, size))


def new_segments(graph: Graph, shapes: set[object], *, bundles: bool = False) -> dict[str, str]:
    """The segments with at least two accesses, the first of each shape, with their names in the library.

    Parameters
    ----------
    graph
        The traced network.
    shapes
        Shapes of earlier segments; segments with these shapes are left out. New shapes are added.
    bundles
        Take the segments with bundles instead, with any number of accesses.
    """
    segments = {
        name: problem
        for name, problem in extract(graph, {}).items()
        if (problem.bundles if bundles else len(problem.accesses) >= 2)
    }
    names = short_names(segments)
    chosen = {}
    for segment, problem in segments.items():
        if shape(problem) not in shapes and not all(block.pinned for block in problem.blocks):
            shapes.add(shape(problem))
            chosen[segment] = names[segment]
    return chosen


def graph_candidates(
    graph: Graph,
    segments: dict[str, str],
    origin: Origin,
    *,
    amounts: Sequence[str] = AMOUNTS,
    correlation: float | None = None,
    bundles: bool = False,
) -> Iterator[Candidate]:
    """The candidates of a traced network in one mask family.

    Two accesses of one block can always both be views. Such segments are included once, with the masks of the weights
    and without cost tables.

    Parameters
    ----------
    graph
        The traced network.
    segments
        Names of segments, and their names in the library.
    origin
        Origin of the candidates, without amount and segment. Its family names the directories.
    amounts
        Shares of channels to remove.
    correlation
        Correlation of the scores of the consumers of one block; None: the L2 norms of the weights are the scores.
    bundles
        The segments have units that may change places. Then their accesses need not differ.
    """
    for amount in amounts:
        if correlation is None:
            masks = l2_masks(graph, amount)
        else:
            masks = correlated_masks(
                graph, amount, correlation, seed=[origin.seed, zlib.crc32(f"{origin.model}".encode())]
            )
        problems = extract(graph, effective_masks(graph, masks).masks)
        directory = f"{origin.family}-{amount}"
        for segment, name in segments.items():
            problem = problems[segment]
            trivial = len(problem.accesses) == 2 and len(problem.blocks) == 1
            if not (bundles or masks_differ(problem)) or (trivial and correlation is not None):
                continue
            own = dataclasses.replace(origin, amount=amount, segment=segment)
            candidate = Candidate.of(problem, f"{origin.model}/{directory}/{name}", own)
            yield candidate
            if directory in CONCAVE and not trivial:
                yield timed(candidate, concave=True)
            if directory in STEPS and not trivial:
                yield timed(candidate, concave=False)


def correlated_masks(
    graph: Graph, amount: str, correlation: float, *, seed: int | list[int] = 0
) -> dict[str, np.ndarray]:
    """Masks from scores that the consumers of one block partly share.

    The score of a channel for a consumer is ``sqrt(correlation) * shared + sqrt(1 - correlation) * own``. Both parts
    are normal. `shared` depends on the channel of the block, `own` also on the consumer. The channels with the lowest
    scores are removed: as many, and for the same consumers, as by `upscale_opt.l2_masks`. Scores do not depend on the
    amount, so a smaller amount removes a subset.

    Parameters
    ----------
    graph
        The traced network.
    amount
        Share of channels to remove.
    correlation
        Between 0 and 1.
    seed
        Seed of the scores.
    """
    rng = np.random.default_rng(seed)
    shared = [rng.standard_normal(block.size) for block in graph.blocks]
    masks = {}
    for weight, read in graph.consumers.items():
        channels = np.concatenate([shared[b] for b in read.input.blocks]).repeat(read.input.size)
        scores = np.sqrt(correlation) * channels + np.sqrt(1 - correlation) * rng.standard_normal(len(channels))
        if read.is_convolution and not read.reads_network_input:
            masks[weight] = np.ones(len(scores), dtype=bool)
            masks[weight][np.argsort(scores, kind="stable")[: num_removed(amount, len(scores))]] = False
    return masks
