"""Latency of apple-upscale's export and of ours: the same masks, TorchScript files, one process, interleaved.

Complete cells in ``results/vs_upscale_latency.csv`` are not measured again, so an interrupted command continues where
it stopped. An export that fails or computes something else gives a row too. Exit code 0, 2 for bad input, 130 if
interrupted.

    python -m benchmarks.vs_upscale_latency --models resnet18 --batches 1 8

The peer comes from PyPI without its pinned requirements: ``pip install --no-deps apple-upscale==0.1.1``.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import results
from benchmarks.vs_upscale_latency.cells import FORMATS, MASKED, PEERS, VARIANTS, Subject
from benchmarks.vs_upscale_latency.rows import read_rows
from benchmarks.vs_upscale_latency.running import NAME, PEER, Run, version_of
from benchmarks.vs_upscale_latency.tables import page
from problems.files import write_text_atomically
from upscale_opt import UpscaleError
from upscale_opt.arguments.amounts import require_amount
from upscale_opt.models.loading import import_torchvision
from upscale_opt.models.precisions import FLOAT32, PRECISIONS, settle

MODELS = ("resnet18", "resnet50", "densenet121", "mobilenet_v2")
RUNS = {"cpu": 20, "cuda": 100}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the missing rows; write CSV and Markdown."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    runs = given.runs if given.runs is not None else RUNS[given.device]
    variants = list(dict.fromkeys([MASKED, *given.variants]))
    complaint = _complaint(given, runs, variants)
    if complaint:
        print(f"error: {complaint}", file=sys.stderr)
        return 2
    if given.threads is not None:
        torch.set_num_threads(given.threads)  # child processes get the same number, and the page states it
    command = f"python -m benchmarks.{NAME} {shlex.join(arguments)}".strip()
    run = Run(given.device, torch.get_num_threads(), runs, variants, given.files, command=command)
    subjects = [
        Subject(
            model,
            amount,
            given.seed,
            given.image_size,
            given.device,
            given.time_limit,
            given.plans,
            given.quick,
            given.dtype,
        )
        for model, amount in itertools.product(given.models, given.amounts)
    ]
    finished = run.over(subjects, list(itertools.product(given.batches, given.formats)), fresh=given.fresh)
    rows = read_rows(run.path)
    if rows:
        text = page(rows)
        write_text_atomically(text, results.DIRECTORY / f"{NAME}.md")
        print(text)
    return 0 if finished else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, help="[%(default)s]")
    parser.add_argument("--amounts", nargs="+", default=("0.5",), help="share of channels removed [0.5]")
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 8), help="[1 8]")
    parser.add_argument("--formats", nargs="+", choices=tuple(FORMATS), default=tuple(FORMATS), help="[both]")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS), help="[all]")
    parser.add_argument("--runs", type=int, help="rounds, at least 2 [20 on cpu, 100 on cuda]")
    parser.add_argument("--device", choices=tuple(RUNS), default="cpu")
    parser.add_argument(
        "--dtype", choices=PRECISIONS, default=FLOAT32, help="in which exports are timed; on a GPU float32 is not tf32"
    )
    parser.add_argument("--image-size", type=int, default=224, help="pixels per side [224]")
    parser.add_argument("--threads", type=int, help="of torch [as many as it takes by itself]")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds per segment and solver [10]")
    parser.add_argument("--seed", type=int, default=0, help="of weights, solvers and images [0]")
    parser.add_argument(
        "--plans", type=Path, help="plans by `benchmarks.latency --plan-only` to carry out [solve here]"
    )
    parser.add_argument("--quick", action="store_true", help="calibrate with less effort")
    parser.add_argument("--files", type=Path, help="keep the TorchScript files in this folder")
    parser.add_argument("--fresh", action="store_true", help="measure cells again that have been measured")
    return parser


def _complaint(given: argparse.Namespace, runs: int, variants: Sequence[str]) -> str | None:
    """The error in the arguments or the machine, and what to do; None if there is none."""
    if runs < 2:
        return f"--runs is {runs}; a spread needs at least 2"
    if min(given.batches) < 1 or given.image_size < 1 or (given.threads is not None and given.threads < 1):
        return "batch sizes, --image-size and --threads must be at least 1"
    try:
        for amount in given.amounts:
            require_amount(amount)
    except UpscaleError as error:
        return str(error)
    known = import_torchvision().models.list_models()
    for name in given.models:
        if ":" not in name and name not in known:
            return f"there is no model {name!r}; name a torchvision model, timm:NAME or path/to/file.py:factory"
    if given.device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device; leave --device out to measure on the CPU"
    try:
        settle(given.dtype, torch.device(given.device))
    except UpscaleError as error:
        return str(error)
    if set(variants) & set(PEERS) and version_of(PEER) is None:
        return f"{PEER} is not installed; run: pip install --no-deps {PEER}==0.1.1"
    return None


if __name__ == "__main__":
    sys.exit(main())
