"""Random tiny instances with everything that a file can hold, as JSON objects, and objectives for them.

Blocks may be pinned, not removable, or have required channels. Accesses read them in any order and several times, with
channel sizes, weights, and cost tables of every shape. There are up to two bundles; their units have one or two blocks,
side by side or not. Without bundles there may be constraints. Everything depends on the seed only. The number of orders
is limited, so that all can be tried.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.agreement.oracle import GOALS, Goal, Oracle

MOST_ORDERS = 30_000
"""Most orders of an instance: orders of single channels times arrangements."""

_FEW_ORDERS = 24
"""Only one instance of eight has fewer orders than this."""

_MANY_ACCESSES = 0.08
"""Share of the instances with 6 to 18 accesses, for which other methods are used. The others have up to 5."""

_EXACT = 2**52
"""Larger sums of costs are refused (docs/model.md)."""


def random_document(seed: int) -> dict[str, Any]:
    """The instance of a seed.

    Examples
    --------
    >>> document = random_document(0)
    >>> document == random_document(0), document["name"]
    (True, 'tiny-0')
    """
    least = 1 if seed % 8 == 0 else _FEW_ORDERS
    for attempt in range(1000):
        document = _drawn(np.random.default_rng([seed, attempt]), f"tiny-{seed}")
        if document is not None and least <= Oracle(document).num_orders <= MOST_ORDERS:
            return document
    raise AssertionError(f"seed {seed} gives no instance that is small enough")


def random_goals(document: dict[str, Any], seed: int, number: int) -> list[tuple[str, Goal]]:
    """Some of the objectives that an instance can be solved for: the known ones and custom prices, with their names."""
    rng = np.random.default_rng([seed, 1])
    tables = all("table" in access for access in document["accesses"])
    goals = [(name, goal) for name, goal in GOALS.items() if tables or goal.kind != "tables"]
    goals.append(("prices", _random_prices(rng, document)))
    return [goals[i] for i in rng.choice(len(goals), size=number, replace=False)]


def _random_prices(rng: np.random.Generator, document: dict[str, Any]) -> Goal:
    """Custom prices: none, 0, small, large, or the largest for which sums are exact."""
    oracle = Oracle(document)
    excess = kept = 0
    for access, slots in zip(document["accesses"], oracle.slots):
        own = sum(sum(slot.kept) for slot in slots)
        price = access["channel_size"] * access.get("weight", 1)
        kept += price * own
        excess += price * (sum(len(oracle.stored[slot.block]) for slot in slots) - own)
    largest = _EXACT // (excess + kept)
    alpha, gamma = (
        None if rng.random() < 0.2 else int(rng.choice([0, 1, 2, 3, 5, 17, 1000, 123_457, largest])) for _ in range(2)
    )
    return Goal("prices", 1 if alpha is gamma is None else alpha, gamma)


def _drawn(rng: np.random.Generator, name: str) -> dict[str, Any] | None:
    """A draft of an instance; None if its accesses cannot have the properties that were drawn."""
    sizes: list[int] = []
    bundles: list[list[list[int]]] = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.45, 0.45, 0.1]))):
        columns = rng.integers(1, 4, int(rng.choice([1, 1, 2]))).tolist()
        units = []
        for _ in range(int(rng.choice([2, 3, 4], p=[0.5, 0.35, 0.15]))):
            units.append(list(range(len(sizes), len(sizes) + len(columns))))
            sizes += columns
        bundles.append(units)
    inside = len(sizes)
    if bundles:
        sizes += rng.integers(1, 4, int(rng.integers(0, 3))).tolist()
    elif rng.random() < 0.4:
        sizes.append(int(rng.integers(2, 8)))
    else:
        sizes += rng.integers(1, 6, int(rng.integers(2, 4))).tolist()
    blocks: list[dict[str, Any]] = []
    for b, size in enumerate(sizes):
        required = np.flatnonzero(rng.random(size) < 0.3).tolist() if rng.random() < 0.25 else []
        pinned = bool(b >= inside and rng.random() < 0.2)
        blocks.append({"name": f"b{b}", "size": size, "pinned": pinned, "removable": bool(rng.random() < 0.6)})
        if required:
            blocks[-1]["required"] = required
    num_accesses = int(rng.integers(6, 19)) if rng.random() < _MANY_ACCESSES else int(rng.integers(1, 6))
    reads = [_random_reads(rng, bundles, list(range(inside, len(sizes)))) for _ in range(num_accesses)]
    kept = [_random_kept(rng, [sizes[b] for b in own]) for own in reads]
    for a in range(1, len(reads)):
        if rng.random() < 0.2:  # what another access wants, or the rest
            reads[a], kept[a] = reads[a - 1], kept[a - 1] if rng.random() < 0.5 else ~kept[a - 1]
            if not kept[a].any():
                return None
    _list_channels(rng, blocks, reads, kept)
    accesses = [
        {"name": f"a{a}", "blocks": own, "channel_size": int(rng.choice([1, 1, 1, 2, 4, 49, 1000]))}
        for a, own in enumerate(reads)
    ]
    document = {"format": "upscale_opt.instance", "version": 4 if bundles else 3, "name": name, "blocks": blocks}
    document |= {"bundles": bundles} if bundles else {}
    document |= {"accesses": accesses}
    _make_alike(document)
    _add_tables(rng, document)
    _add_weights(rng, document)
    return document if bundles or _add_constraints(rng, document) else None


def _add_weights(rng: np.random.Generator, document: dict[str, Any]) -> None:
    """Weights for some accesses of some instances."""
    if rng.random() < 0.3:
        for access in document["accesses"]:
            if (weight := int(rng.choice([1, 2, 3, 5]))) > 1:
                access["weight"] = weight
                document["version"] = 5


def _add_constraints(rng: np.random.Generator, document: dict[str, Any]) -> bool:
    """Fixed places and precedences for some instances; False if no order keeps them."""
    oracle = Oracle(document)
    free = [b for b, own in enumerate(oracle.stored) if len(own) > 1 and not oracle.blocks[b]["pinned"]]
    if rng.random() < 0.8 or not free or oracle.num_orders > MOST_ORDERS:
        return True
    document["constraints"] = []
    document["version"] = 5
    for _ in range(int(rng.integers(1, 4))):
        b = int(rng.choice(free))
        size = len(oracle.stored[b])
        first, later = rng.choice(oracle.stored[b], 2, replace=False).tolist()
        if rng.random() < 0.5:
            own = {"block": b, "channel": first, "place": int(rng.integers(-size, size))}
        else:
            own = {"block": b, "first": first, "later": later}
        document["constraints"].append(own)
    return all(len(orders) for orders in Oracle(document).sequences)


def _random_reads(rng: np.random.Generator, bundles: list[list[list[int]]], others: list[int]) -> list[int]:
    """A concatenation: blocks of all units of a bundle, in any order, and other blocks, some of them twice."""
    parts: list[list[int]] = []
    for units in bundles:
        for column in zip(*units):
            for _ in range(int(rng.choice([0, 1, 2], p=[0.3, 0.6, 0.1]))):
                parts.append(list(column) if rng.random() < 0.7 else rng.permutation(column).tolist())
    parts += [[int(b)] for b in rng.choice(others, size=int(rng.integers(0, 4)))] if others else []
    if not parts:
        return _random_reads(rng, bundles, others)
    sequence = [b for i in rng.permutation(len(parts)) for b in parts[i]]
    return rng.permutation(sequence).tolist() if rng.random() < 0.15 else sequence


def _random_kept(rng: np.random.Generator, sizes: list[int]) -> np.ndarray:
    """Which positions are kept: channels, or whole blocks, of a random share."""
    share = rng.choice([0.2, 0.5, 0.8])
    whole = rng.random() < 0.25
    kept = np.repeat(rng.random(len(sizes)) < share, sizes) if whole else rng.random(sum(sizes)) < share
    kept[rng.integers(len(kept))] |= not kept.any()
    return kept


def _list_channels(
    rng: np.random.Generator, blocks: list[dict[str, Any]], reads: list[list[int]], kept: list[np.ndarray]
) -> None:
    """Write the field `channels`: consecutive channels that the same readers keep, as lists or in hexadecimal."""
    own: list[list[np.ndarray]] = [[] for _ in blocks]
    numbers: list[list[int]] = [[] for _ in blocks]
    reader = 0
    for sequence, positions in zip(reads, kept):
        at = 0
        for b in sequence:
            own[b].append(positions[at : at + blocks[b]["size"]])
            numbers[b].append(reader)
            at, reader = at + blocks[b]["size"], reader + 1
    for b, block in enumerate(blocks):
        size = block.pop("size")
        in_hexadecimal = len(own[b]) > 8 or rng.random() < 0.2
        runs: list[list[Any]] = []
        for c in range(size):
            keeps = [i for i, positions in enumerate(own[b]) if positions[c]]
            who = f"{sum(1 << i for i in keeps):x}" if in_hexadecimal else [numbers[b][i] for i in keeps]
            if runs and runs[-1][1] == who:
                runs[-1][0] += 1
            else:
                runs.append([1, who])
        block["channels"] = runs


def _make_alike(document: dict[str, Any]) -> None:
    """Make corresponding blocks of units store equally many channels: if they do not by chance, all of them."""
    for units in document.get("bundles", []):
        for column in zip(*units):
            if len({len(Oracle(document).stored[b]) for b in column}) > 1:
                for b in column:
                    document["blocks"][b]["removable"] = False


def _add_tables(rng: np.random.Generator, document: dict[str, Any]) -> None:
    """Cost tables for all accesses, for some, or for none."""
    share = rng.choice([0.0, 0.5, 1.0], p=[0.3, 0.1, 0.6])
    shape = str(rng.choice(["concave", "steps", "any"]))
    oracle = Oracle(document)
    for access, slots in zip(document["accesses"], oracle.slots):
        if rng.random() < share:
            kept = sum(sum(slot.kept) for slot in slots)
            width = sum(len(oracle.stored[slot.block]) for slot in slots)
            access["table"] = _random_table(rng, kept, width, shape)


def _random_table(rng: np.random.Generator, kept: int, width: int, shape: str) -> dict[str, Any]:
    """A grid from the kept channels or below to the stored ones or beyond, a copy or none, pieces or none."""
    first = int(rng.integers(0, kept + 1)) if rng.random() < 0.3 else kept
    last = width + int(rng.choice([0, 0, 0, 3]))
    inside = [x for x in range(first + 1, last) if rng.random() < 0.4]
    spans = [first, *inside, last] if last > first else [first]
    widths = np.diff(spans)
    scale = int(rng.choice([1, 10, 10_000, 10**8]))
    if shape == "concave":
        slopes = np.sort(rng.integers(0, 10, len(widths)))[::-1]
        steps = slopes * widths
    elif shape == "steps":
        steps = rng.integers(0, 10, len(widths)) * rng.integers(0, 2, len(widths))
    else:
        steps = rng.integers(0, 10, len(widths))
    costs = int(rng.integers(0, 30)) + np.concatenate([[0], np.cumsum(steps)]) * scale
    table: dict[str, Any] = {"spans": spans, "costs": costs.astype(int).tolist(), "copy": None}
    if rng.random() < 0.7:
        table["copy"] = int(rng.integers(0, 1 + max(1, costs[-1] - costs[0])))
    if rng.random() < (0.15 if shape == "concave" else 0.5):
        points = [2, *(x for x in range(3, 7) if rng.random() < 0.4)]
        joins = int(rng.integers(0, 5)) + np.cumsum(rng.integers(0, 4, len(points))) * scale
        table |= {"runs": points, "pieces": joins.tolist()}
    return table


def orders_at_random(oracle: Oracle, rng: np.random.Generator) -> tuple[list[list[int]], list[list[int]]]:
    """Any order of an instance that keeps its constraints, with any arrangement."""
    constrained = {own["block"] for own in oracle.constraints}
    orders = []
    for b, own in enumerate(oracle.stored):
        if b in constrained:
            orders.append(rng.choice(oracle.sequences[b]).tolist())
        else:
            orders.append(own if oracle.blocks[b]["pinned"] else rng.permutation(own).tolist())
    return orders, [rng.permutation(len(units)).tolist() for units in oracle.bundles]


def described(goal: Goal) -> str:
    """Prices in words."""
    return f"alpha {goal.alpha}, gamma {goal.gamma}"
