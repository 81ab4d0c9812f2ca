"""The outcomes of seeds, in one process or in several. A separate module, so that other processes can import it."""

from __future__ import annotations

import functools
import multiprocessing
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import torch

from benchmarks.random_networks.checks import Outcome, Verdict, check
from benchmarks.random_networks.networks import random_network
from benchmarks.random_networks.program import Program
from benchmarks.random_networks.streams import stream_network

CHUNK = 8
"""Number of seeds that a process gets at once."""


def network_of(seed: int, without: tuple[str, ...] = (), *, streams: bool = False) -> Program:
    """The network of a seed: of residual streams (`stream_network`), or any (`random_network`)."""
    return stream_network(seed) if streams else random_network(seed, without=without)


def outcome_of(seed: int, without: tuple[str, ...] = (), *, streams: bool = False) -> Outcome:
    """The outcome of a seed's network, on one thread: tensors are tiny."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return check(network_of(seed, without, streams=streams), seed)
        except Exception as error:  # a fault of the check itself: it is reported with its seed, and the sweep continues
            reason = f"the check itself raises {type(error).__name__}: {error}"
            return Outcome(Verdict.WRONG, reason, traceback.format_exc())


def outcomes(
    seeds: range, jobs: int = 1, without: tuple[str, ...] = (), *, streams: bool = False
) -> Iterator[tuple[int, Outcome]]:
    """Yield seeds with their outcomes, in order.

    Parameters
    ----------
    seeds
        The seeds.
    jobs
        Number of processes.
    without
        Names of operators to leave out.
    streams
        Networks of residual streams instead of any.

    Raises
    ------
    BrokenProcessPool
        If a process was killed, by torch or from outside. It is not known which seeds it had.
    """
    work = functools.partial(outcome_of, without=without, streams=streams)
    if jobs == 1:
        yield from zip(seeds, map(work, seeds))
        return
    # An executor, not a pool: a pool waits forever for a process that torch has killed.
    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from zip(seeds, executor.map(work, seeds, chunksize=CHUNK))
    finally:
        executor.shutdown(cancel_futures=True)
