"""The outcomes of seeds, in one process or in several. A separate module, so that other processes can import it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

from benchmarks.agreement.checks import Outcome, check_seed
from benchmarks.agreement.joint_checks import check_joint_seed


def outcomes(seeds: range, jobs: int = 1, *, joint: bool = False) -> Iterator[tuple[int, Outcome]]:
    """Yield seeds with their outcomes, in order.

    Parameters
    ----------
    seeds
        The seeds.
    jobs
        Number of processes.
    joint
        Joint problems, instead of ordering problems.
    """
    check = check_joint_seed if joint else check_seed
    if jobs == 1:
        yield from zip(seeds, map(check, seeds))
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from zip(seeds, pool.imap(check, seeds, chunksize=8))
