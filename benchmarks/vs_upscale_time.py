"""Trace + extract + greedy, compared with apple-upscale's ``PruningManager.compute``: same masked weights and process.

The peer comes from PyPI without its pinned requirements: ``pip install --no-deps apple-upscale==0.1.1``. Both start
from a model whose weakest input channels are zero. They are timed alternately. Copies are compared too: if our order
moves more channels than the peer's, the row says so.

    python -m benchmarks.vs_upscale_time
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.results import save
from solvers import solve
from upscale_opt import ModelReference, effective_masks, extract, l2_masks, load_model, masked_copy, trace

MODELS = ("resnet50", "densenet121", "efficientnet_v2_s")


def ours(model: torch.nn.Module, x: torch.Tensor) -> tuple[float, int, int]:
    """Seconds for trace, mask detection, extraction and greedy; copies; copied channels."""
    started = time.perf_counter()
    graph = trace(model, x)
    problems = extract(graph, effective_masks(graph).masks)
    results = [solve(problem, solver="greedy") for problem in problems.values()]
    seconds = time.perf_counter() - started
    copies = sum(result.evaluation.copies for result in results)
    return seconds, copies, sum(result.evaluation.copied_channels for result in results)


def peers(manager: Any, model: torch.nn.Module, x: torch.Tensor) -> tuple[float, int, int]:
    """Seconds for the peer's compute (on a fresh copy of the model), copies, copied channels."""
    fresh = manager(copy.deepcopy(model))
    started = time.perf_counter()
    fresh.compute([x])
    seconds = time.perf_counter() - started
    indices = fresh.spec.tensor_to_input_activation_indices.values()
    copied = [len(index) for index in indices if not isinstance(index, range)]
    return seconds, len(copied), sum(copied)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--rounds", type=int, default=3, help="timings per side, alternating")
    parser.add_argument("--amount", default="0.5")
    arguments = parser.parse_args()
    try:
        from upscale import PruningManager
    except ImportError:
        sys.exit("apple-upscale is not installed; run: pip install --no-deps apple-upscale==0.1.1")

    rows = []
    for name in tqdm(arguments.models, unit="model"):
        model = load_model(ModelReference(name))
        x = torch.zeros(1, 3, 224, 224)
        graph = trace(model, x)
        model = masked_copy(model, l2_masks(graph, arguments.amount))
        ours(model, x)  # warm-up of imports and allocators
        measured = [(ours(model, x), peers(PruningManager, model, x)) for _ in range(arguments.rounds)]
        own = statistics.median(mine[0] for mine, _ in measured)
        peer = statistics.median(theirs[0] for _, theirs in measured)
        (_, copies, channels), (_, peer_copies, peer_channels) = measured[0]
        rows.append(
            {
                "model": name,
                "ours s": own,
                "apple-upscale s": peer,
                "ratio": peer / own,
                "smallest paired ratio": min(theirs[0] / mine[0] for mine, theirs in measured),
                "our copies": copies,
                "peer copies": peer_copies,
                "our copied channels": channels,
                "peer copied channels": peer_channels,
            }
        )
    mean = statistics.geometric_mean(row["ratio"] for row in rows)
    summary = (
        f"Trace + extract + greedy against apple-upscale 0.1.1, amount {arguments.amount}, median of "
        f"{arguments.rounds} alternating runs: geometric mean of the ratios {mean:.1f}, smallest "
        f"{min(row['ratio'] for row in rows):.1f}."
    )
    print(save("vs_upscale_time", rows, summary))


if __name__ == "__main__":
    main()
