"""Builds the library: a file for every candidate whose content is new, and the index of all instances.

Solutions of unchanged instances are kept. Solutions of changed or removed instances are removed. The classical
instances can be built alone.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from tqdm import tqdm

from benchmarks.digits import NETWORKS
from benchmarks.library.candidates import Candidate
from benchmarks.library.classical import classical_candidates
from benchmarks.library.networks import (
    GROUPED,
    LARGER,
    MODELS,
    digits_candidates,
    grouped_candidates,
    torchvision_candidates,
)
from problems import ProblemError, write_instance
from problems.collection import Collection, Entry


def build(
    collection: Collection,
    *,
    models: tuple[str, ...] = (*MODELS, *LARGER),
    digits: tuple[str, ...] = tuple(NETWORKS),
    grouped: tuple[str, ...] = GROUPED,
) -> int:
    """Write all instances and the index; returns the number of instances.

    The index is written last. An interrupted build leaves the old index, which may list instances that have changed.

    Parameters
    ----------
    collection
        The collection to write.
    models
        Names of torchvision networks.
    digits
        Names of networks that `benchmarks.digits` trains.
    grouped
        Names of torchvision networks whose groups may change places.
    """
    entries: dict[str, Entry] = {}
    hashes: set[str] = set()
    for candidate in _candidates(models, digits, grouped):
        entry = candidate.entry
        if entry.hash in hashes:
            continue
        if entry.name in entries:
            raise ProblemError(f"two instances are named {entry.name!r}; name one of them otherwise")
        hashes.add(entry.hash)
        entries[entry.name] = entry
        path = collection.directory / f"{entry.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_instance(candidate.problem, path)
    _remove_stale(collection, entries)
    collection.write_index(entries.values())
    return len(entries)


def build_classical(collection: Collection, only: str = "classical/*") -> int:
    """Write the classical instances that are new or have changed, and the index; all others stay as they are.

    The index has the order that `build` gives it.

    Parameters
    ----------
    collection
        The collection to write.
    only
        Pattern of the names that are written; other classical instances stay, if they are there.

    Returns
    -------
    int
        The number of instances that were written.
    """
    before = collection.entries
    entries: dict[str, Entry] = {}
    hashes = {entry.hash for name, entry in before.items() if not name.startswith("classical/")}
    written = 0
    for candidate in classical_candidates():
        entry = candidate.entry
        if not fnmatch.fnmatchcase(entry.name, only):
            if entry.name in before:
                entries[entry.name] = before[entry.name]
                hashes.add(before[entry.name].hash)
            continue
        if entry.hash in hashes:
            continue
        hashes.add(entry.hash)
        entries[entry.name] = entry
        if before.get(entry.name) != entry:
            path = collection.directory / f"{entry.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_instance(candidate.problem, path)
            written += 1
    entries |= {name: entry for name, entry in before.items() if not name.startswith("classical/")}
    _remove_stale(collection, entries)
    collection.write_index(entries.values())
    return written


def _candidates(models: tuple[str, ...], digits: tuple[str, ...], grouped: tuple[str, ...]) -> Iterator[Candidate]:
    yield from classical_candidates()
    shapes: set[object] = set()
    for name in tqdm(models, desc="networks", unit="network"):
        yield from torchvision_candidates(name, shapes)
    shapes = set()  # weights are trained, so segments of a known shape are kept too
    for name in tqdm(digits, desc="training", unit="network"):
        yield from digits_candidates(name, shapes)
    shapes = set()
    for name in tqdm(grouped, desc="groups", unit="network"):
        yield from grouped_candidates(name, shapes)


def _remove_stale(collection: Collection, entries: dict[str, Entry]) -> None:
    """Remove files of instances that no longer exist, and solutions of instances whose content has changed."""
    try:
        before = collection.entries
    except ProblemError:
        before = {}
    changed = {name for name, entry in before.items() if name not in entries or entries[name].hash != entry.hash}
    collection.drop(changed & entries.keys(), solutions_only=True)
    collection.drop(changed - entries.keys())
