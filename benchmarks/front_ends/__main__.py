"""Networks that torch.fx dislikes, through both front ends: who takes them, how many channels may move, is it right?

With ``--only own`` it needs no other packages; otherwise networks of timm and transformers come along if these are
installed. Exit code 0, 1 if an export is not verified or a program error is met, 2 for a name that does not exist.

    python -m benchmarks.front_ends [NAME ...]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.front_ends import containers, questions  # noqa: F401  (they fill the list)
from benchmarks.front_ends.libraries import TIMM, TRANSFORMERS, of_timm, of_transformers
from benchmarks.front_ends.written import NETWORKS, Network
from upscale_opt import ModelError, VerificationError, constrained_masks, export, trace
from upscale_opt.arguments.modes import EXPORT, FRONT_ENDS, FX

AMOUNT = "0.5"
NOT_VERIFIED, FAILED = "NOT VERIFIED", "ERROR"


def networks(*, only_own: bool) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Yield all networks that can be built here."""
    yield from NETWORKS.items()
    if not only_own and importlib.util.find_spec("timm"):
        yield from ((f"timm/{name}", functools.partial(of_timm, name)) for name in TIMM)
    if not only_own and importlib.util.find_spec("transformers"):
        yield from ((f"transformers/{name}", functools.partial(of_transformers, name)) for name in TRANSFORMERS)


def tried(make: Callable[[], Network], front_end: str) -> str:
    """Trace, prune and verify a network, and say what came out in one line."""
    torch.manual_seed(0)
    model, inputs = make()
    started = time.perf_counter()
    try:
        graph = trace(model.eval(), inputs, front_end=front_end)
    except ModelError as error:
        return f"refused: {str(error)[:300]}"
    seconds = time.perf_counter() - started
    sizes = [(block.size, block.pinned) for block in graph.blocks]
    movable, number = sum(size for size, pinned in sizes if not pinned), sum(size for size, _ in sizes)
    text = f"{movable} of {number} channels may move, {len(graph.consumers)} consumers, {seconds:.1f} s"
    try:
        exported = export(model, inputs, masks=constrained_masks(graph, AMOUNT), baseline=True, graph=graph)
    except VerificationError as error:
        return f"{text}; {NOT_VERIFIED}: {str(error)[:200]}"
    return f"{text}; {exported.verification}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.front_ends",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--only", choices=["own"], help="networks that need no other packages")
    parser.add_argument("--front-end", choices=FRONT_ENDS, action="append", help="default: fx and export")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    known = dict(networks(only_own=given.only == "own"))
    if unknown := [name for name in given.names if name not in known]:
        print(f"error: there is no network {unknown[0]!r} here; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    wrong = 0
    for name in given.names or known:
        for front_end in given.front_end or (FX, EXPORT):
            try:
                result = tried(known[name], front_end)
            except Exception as error:  # a network must not end the others
                result = f"{FAILED}: {type(error).__name__}: {str(error)[:300]}"
            wrong += NOT_VERIFIED in result or result.startswith(FAILED)
            print(f"{name:34} {front_end:7} {result}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
