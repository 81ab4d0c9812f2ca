"""Inequalities that every tour meets and a fractional point violates: subtours and blossoms.

Let d(H) be the edges between a set H of nodes and the others. A tour has an even, positive number of edges in d(H): at
least 2, and if T is an odd part of d(H) then x(d(H) - T) - x(T) >= 1 - |T| (Padberg and Rao, "Odd minimum cut-sets and
b-matchings", Math. Oper. Res. 7, 1982; T need not be a matching).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

from solvers.common.clock import time_now

_VIOLATED = 0.02  # value: by which a cut must be violated to be added; by hand
_SCALE = 10**6  # parts: of an edge in the whole numbers of a flow; by hand
_MOST_FLOWS = 400  # flows: of one separation; by hand


@dataclass(frozen=True, eq=False)
class Cut:
    """x(d(inside) - teeth) - x(teeth) >= rhs.

    Attributes
    ----------
    block
        Index into `RunGraph.blocks`.
    inside
        bool, shape (num_nodes,): the set; False at the block's ends.
    teeth
        int, shape (odd number or 0, 2): edges that leave the set.
    """

    block: int
    inside: np.ndarray
    teeth: np.ndarray

    @property
    def rhs(self) -> int:
        """2 without teeth, else 1 less the number of teeth."""
        return 1 - len(self.teeth) if len(self.teeth) else 2

    @property
    def key(self) -> tuple[int, bytes, bytes]:
        """Equal for equal cuts."""
        return self.block, np.packbits(self.inside).tobytes(), np.sort(self.teeth, axis=None).tobytes()

    def coefficients(self, tails: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """Of some edges of the block; int64, in {-1, 0, 1}."""
        crossing = (self.inside[tails] ^ self.inside[heads]).astype(np.int64)
        if len(self.teeth):
            num = len(self.inside)
            low, high = np.minimum(tails, heads), np.maximum(tails, heads)
            teeth = self.teeth.min(axis=1) * num + self.teeth.max(axis=1)
            crossing[np.isin(low * num + high, teeth)] = -1
        return crossing


def violated_cuts(
    block: int,
    num_classes: int,
    num_ends: int,
    tails: np.ndarray,
    heads: np.ndarray,
    x: np.ndarray,
    *,
    most: int,
    deadline: float = math.inf,
) -> list[Cut]:
    """Cuts of one block that a point violates.

    Parameters
    ----------
    block, num_classes, num_ends
        The graph; its ends count as one node.
    tails, heads, x
        Edges and their values.
    most
        How many cuts to return.
    deadline
        A `time.perf_counter` reading, from which on no more are looked for.
    """
    used = x > 1e-7
    tails, heads, x = tails[used], heads[used], x[used]
    u, v = np.minimum(tails, num_classes), np.minimum(heads, num_classes)
    num = num_classes + 1
    found: dict[tuple[int, bytes, bytes], tuple[float, Cut]] = {}

    def offer(inside: np.ndarray) -> bool:
        """Take the set's cut, and its blossom, if violated; says whether the former is."""
        if inside[num_classes]:
            inside = ~inside
        size = int(inside.sum())
        if size == 0:
            return False
        crossing = inside[u] ^ inside[v]
        value = float(x[crossing].sum())
        mask = np.concatenate([inside[:num_classes], np.zeros(num_ends, dtype=bool)])
        none = np.zeros((0, 2), dtype=np.int64)
        if size > 1 and value < 2 - _VIOLATED:
            cut = Cut(block, mask, none)
            found.setdefault(cut.key, (2 - value, cut))
            return True
        ids = np.flatnonzero(crossing)
        own = x[ids]
        tooth = own > 0.5
        if tooth.sum() % 2 == 0:
            if len(ids) == 0:
                return False
            flip = int(np.abs(own - 0.5).argmin())
            tooth[flip] = ~tooth[flip]
        left = float(own[~tooth].sum() + (1 - own[tooth]).sum())
        if left < 1 - _VIOLATED and tooth.sum() >= 1:
            teeth = ids[tooth]
            cut = Cut(block, mask, np.stack([tails[teeth], heads[teeth]], axis=1))
            found.setdefault(cut.key, (1 - left, cut))
        return False

    subtour = False
    for level in (1e-6, 0.999, 0.6, 0.3):
        if level == 0.999:
            keep = x < level
        elif level == 1e-6:
            keep = x > level
        else:
            keep = (x > level) & (x < 0.999)
        count, label = connected_components(coo_array((np.ones(keep.sum()), (u[keep], v[keep])), shape=(num, num)))
        sizes = np.bincount(label)
        for part in np.flatnonzero(sizes > 1) if count > 1 else []:
            subtour |= offer(label == part)
    for inside in _merged_sets(num, u, v, x):
        subtour |= offer(inside)
    if not subtour:
        for inside in _minimum_cuts(num, u, v, x, deadline):
            offer(inside)
    best = sorted(found.values(), key=lambda pair: -pair[0])[:most]
    return [cut for _, cut in best]


def _merged_sets(num: int, u: np.ndarray, v: np.ndarray, x: np.ndarray) -> list[np.ndarray]:
    """Sets that arise when edges are contracted, heaviest first, as far as few enough edges leave them."""
    near: list[dict[int, float]] = [{} for _ in range(num)]
    for a, b, value in zip(u.tolist(), v.tolist(), x.tolist()):
        near[a][b] = near[a].get(b, 0.0) + value
        near[b][a] = near[b].get(a, 0.0) + value
    parent = np.arange(num)
    members: list[list[int]] = [[i] for i in range(num)]
    leaving = [sum(own.values()) for own in near]
    sets: list[np.ndarray] = []

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for e in np.argsort(-x, kind="stable").tolist():
        a, b = root(int(u[e])), root(int(v[e]))
        if a == b:
            continue
        if len(near[a]) < len(near[b]):
            a, b = b, a
        between = near[a].pop(b, 0.0)
        near[b].pop(a, None)
        leaving[a] += leaving[b] - 2 * between
        for c, value in near[b].items():
            near[a][c] = near[a].get(c, 0.0) + value
            near[c][a] = near[c].get(a, 0.0) + value
            del near[c][b]
        near[b] = {}
        parent[b] = a
        members[a] += members[b]
        if len(members[a]) < num and leaving[a] < 2.95 and len(members[a]) > 1:
            inside = np.zeros(num, dtype=bool)
            inside[members[a]] = True
            if leaving[a] < 2 - _VIOLATED or x[e] < 0.999:
                sets.append(inside)
    return sets


def _minimum_cuts(num: int, u: np.ndarray, v: np.ndarray, x: np.ndarray, deadline: float) -> list[np.ndarray]:
    """Minimum cuts between the first node and all others, edges of value 1 contracted (they are never in one)."""
    whole = x > 1 - 1e-6
    count, label = connected_components(coo_array((np.ones(whole.sum()), (u[whole], v[whole])), shape=(num, num)))
    if count < 3:
        return []
    a, b = label[u[~whole]], label[v[~whole]]
    weight = np.rint(x[~whole] * _SCALE).astype(np.int32)
    keep = a != b
    a, b, weight = a[keep], b[keep], weight[keep]
    graph = csr_array(
        coo_array(
            (np.concatenate([weight, weight]), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(count, count)
        )
    )
    graph.sum_duplicates()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    sets = []
    seen: set[bytes] = set()
    for sink in range(1, count)[:_MOST_FLOWS]:
        if time_now() >= deadline:
            break
        flow = maximum_flow(graph, 0, sink)
        if flow.flow_value > (2 - _VIOLATED) * _SCALE:
            continue
        residual = graph - flow.flow
        residual.data = np.where(residual.data > 0, 1, 0)
        residual.eliminate_zeros()
        reached = breadth_first_order(residual, 0, return_predecessors=False)
        side = np.zeros(count, dtype=bool)
        side[reached] = True
        if side.tobytes() not in seen:
            seen.add(side.tobytes())
            sets.append(side[label])
    return sets
