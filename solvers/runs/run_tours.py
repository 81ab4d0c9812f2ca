"""Runs by branch and cut: the bound of a linear program over tours, dives for good orders, and branching to close it.

Most instances are closed at the root, because the distances are small whole numbers and runs are half a whole bound.
Every bound is checked in whole numbers; see `solvers.runs.tour_prices`.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from problems import Claim, Order, Problem
from solvers.common.block_rows import class_sequence
from solvers.common.clock import time_now
from solvers.common.incumbent import Incumbent
from solvers.common.proofs import claim
from solvers.common.task import Task
from solvers.runs.class_distances import ClassDistances
from solvers.runs.run_borders import RunBorders
from solvers.runs.run_climb import Near, RunClimb
from solvers.runs.tour_cuts import violated_cuts
from solvers.runs.tour_graph import RunGraph
from solvers.runs.tour_prices import SCALE, Certified, Choices, certified
from solvers.runs.tour_program import Point, TourProgram
from solvers.runs.tour_rounding import rounded_sequences

MAX_CLASSES = 2500  # classes: of a block; the search holds a few matrices of their pairs
MAX_PAIRS = 12_000_000
"""pairs: of classes of a block, or of blocks that meet; the search holds a few matrices of them, 100 MB each"""
_SECONDS_A_PAIR = 4e-7  # seconds: about what making the matrices and the first few linear programs take (estimate)

_TIME = 0.9  # share: of the time; what is left is for the final climb and the checks; by hand
_CLIMB = 0.2  # steps: of a climb for every class; by hand
_ROUNDS = 8  # tours: climbed at the root, and remembered; by hand
_NODE_ROUNDS_CLIMBED = 3  # tours: climbed at a node; by hand
_NOISE = 0.3  # relative: noise on the program's point before it is rounded to a tour; by hand
_NODES_A_CLIMB = 2  # nodes: from one climb to the next; by hand
_MOST_CUTS = 200  # cuts: added in a round; by hand
_MOST_COLUMNS = 2000  # edges: added in a round; by hand
_IDLE_CUTS = 8  # rounds: that a cut may be idle before it is dropped; by hand
_STALLED = 8  # rounds: without progress before the root branches; by hand
_NODE_STALLED = 3  # rounds: without progress before a node branches; by hand
_PROGRESS = SCALE // 20  # parts: of a run (65,536ths) that count as progress: a twentieth; by hand
_NODE_ROUNDS = 12  # rounds: at a node; by hand
_SHARE = 0.1  # share: of undecided edges that a dive fixes at once; by hand
_PATIENCE = 100  # rounds: of a climb that may be in vain; by hand
_ROUNDING_ERROR = 1e-6  # value: up to which HiGHS's solution counts as whole: its tolerance is 1e-7
_NEAREST = 6  # classes: nearest ones by reduced cost that a climb looks at; by hand
_NEVER = np.int64(2**60)  # cost: of what cannot be


@dataclass(frozen=True, eq=False)
class _Relaxed:
    """A node's relaxation: the last point, and the best bound."""

    point: Point
    bound: int
    whole: bool


def solve_run_tours(task: Task, incumbent: Incumbent, *, most_programs: int | None = None) -> RunTours | None:
    """Improve an incumbent by branch and cut, until it is closed or its share of the time is up.

    Parameters
    ----------
    task, incumbent
        The problem, and the best order and bound known.
    most_programs
        How many linear programs to solve at most; None for no limit.

    Returns
    -------
    RunTours or None
        What is left of the search; None if there are too many classes for it, or too many for the time.

    Examples
    --------
    >>> import time
    >>> from problems import Order, objective_named
    >>> from problems.generators import random_masks
    >>> problem = random_masks(24, 24)
    >>> start = Order.identity(problem)
    >>> task = Task(problem, objective_named("runs"), start, time.perf_counter(), np.inf)
    >>> incumbent = Incumbent(task)
    >>> tours = solve_run_tours(task, incumbent)
    >>> incumbent.bound, incumbent.value
    (103, 103)
    """
    most, pairs = _sizes(task.problem)
    if most > MAX_CLASSES or pairs > MAX_PAIRS or task.remaining < _SECONDS_A_PAIR * pairs:
        return None
    until = time_now() + _TIME * task.remaining
    tours = RunTours(replace(task, deadline=until), incumbent, most_programs=most_programs)
    tours.root()
    tours.climb(_ROUNDS)
    tours.merge()
    tours.root()
    tours.dive()
    tours.branch()
    return tours


class RunTours:
    """A branch and cut that improves an incumbent of the objective `runs`.

    Parameters
    ----------
    task, incumbent
        The problem, and the best order, whose edges are the first columns.
    most_programs
        How many linear programs to solve at most; None for no limit.

    Attributes
    ----------
    choices
        Edges that an order better than the incumbent may use, and those it must use.
    programs, nodes
        How many linear programs were solved and nodes were branched on.
    """

    def __init__(self, task: Task, incumbent: Incumbent, *, most_programs: int | None = None) -> None:
        self._task, self._incumbent = task, incumbent
        self._most = math.inf if most_programs is None else most_programs
        self.graph = RunGraph.of(task.problem)
        self.choices = Choices.of(self.graph)
        self.programs = self.nodes = self._climbs = 0
        self._relaxed: _Relaxed | None = None
        self._proven: Certified | None = None
        self._distances: dict[int, ClassDistances] = {}
        self._found: list[list[np.ndarray]] = []
        self._program = TourProgram(self.graph)
        self._program.offer_paths(self._sequences(incumbent.order))

    @property
    def stopped(self) -> bool:
        """Whether there is nothing left to do, or nothing left to do it with."""
        return self._incumbent.closed or self._task.expired or self.programs >= self._most

    def root(self) -> None:
        """Raise the bound as far as cuts go, and drop edges that no better order uses."""
        if not self.graph.blocks or self.stopped:
            return
        self._relax(self.choices, rounds=None, at_root=True)

    def climb(self, rounds: int) -> None:
        """Search around orders that the last point suggests, more or less, and make their edges columns.

        Classes are only joined where the prices find that cheap.
        """
        near = self._near()
        rng = np.random.default_rng([self._task.seed, self._climbs])
        for k in range(rounds):
            if self._relaxed is None or self.stopped:
                return
            self._climbs += 1
            point = self._relaxed.point
            x = point.x if k == 0 else [own * rng.uniform(1 - _NOISE, 1 + _NOISE, len(own)) for own in point.x]
            start = self.graph.order(rounded_sequences(self.graph, point.edges, x))
            task = replace(self._task, start=start, progress=None, seed=self._task.seed + self._climbs)
            found = Incumbent(task)
            climb = RunClimb(task, found, distances=self._distances, near=near)
            climb.run(_PATIENCE, most_steps=_CLIMB * len(task.problem.classes))
            self._incumbent.offer(found.order)
            sequences = self._sequences(found.order)
            self._program.offer_paths(sequences)
            self._found.append([own.path(nodes) for own, nodes in zip(self.graph.blocks, sequences)])

    def _sequences(self, order: Order) -> list[np.ndarray]:
        """The classes (nodes) of every graph in an order."""
        return [class_sequence(self._task.problem, order, own.block) for own in self.graph.blocks]

    def _near(self) -> dict[int, Near]:
        """By block the classes to which joining every node costs least, at the last prices."""
        if self._proven is None:
            return {}
        found: dict[int, Near] = {}
        for own, reduced, allowed in zip(self.graph.blocks, self._proven.reduced, self.choices.allowed):
            num = own.num_classes
            if num <= _NEAREST:
                continue
            priced = np.where(allowed, reduced, _NEVER)[:, :num]
            nearest = np.argpartition(priced, _NEAREST - 1, axis=1)[:, :_NEAREST]
            far = np.take_along_axis(own.far[:, :num], nearest, axis=1)
            nearest = np.take_along_axis(nearest, np.argsort(far, axis=1, kind="stable"), axis=1)
            usable = np.take_along_axis(priced, nearest, axis=1) < _NEVER
            lists = [row[use].tolist() for row, use in zip(nearest, usable)]
            found[own.block] = dict(enumerate(lists if own.num_ends == 2 else [*lists, lists[-1]]))
        return found

    def merge(self) -> None:
        """Look for the best order among those made of the edges of orders that climbs found."""
        if self._found:
            choices = self.choices.copy()
            choices.restrict(self._found)
            self._found = []
            self._dive(choices)

    def dive(self) -> None:
        """Make an order by forcing the surest edges of the relaxation, a few at a time."""
        self._dive(self.choices.copy())

    def _dive(self, choices: Choices) -> None:
        while self.graph.blocks and not self.stopped:
            relaxed = self._relax(choices, rounds=_NODE_ROUNDS)
            if relaxed is None or relaxed.bound > self._cutoff:
                return
            self._offer_rounded(relaxed)
            if relaxed.whole:
                return
            self._force(choices, relaxed)

    def branch(self) -> None:
        """Search the tree of choices, nodes of the best bound first, the deepest of them before others."""
        if not self.graph.blocks or self.stopped:
            return
        count = itertools.count()
        heap: list[tuple[int, int, int, Choices]] = [(self._incumbent.bound, 0, next(count), self.choices)]
        while heap and not self.stopped:
            bound, depth, _, choices = heapq.heappop(heap)
            children = self._children(choices) if bound < self._incumbent.value else []
            if children is None:
                heapq.heappush(heap, (bound, depth, next(count), choices))
            for own, child in children or []:
                heapq.heappush(heap, (max(own, bound), depth - 1, next(count), child))
            self._raise_bound(min((node[0] for node in heap), default=self._incumbent.value))

    @property
    def _cutoff(self) -> int:
        """Bounds above it leave no better order."""
        return (2 * self._incumbent.value - 2) * SCALE

    def _children(self, choices: Choices) -> list[tuple[int, Choices]] | None:
        """Branch on one edge; bounds on the runs and choices, nothing if the node is settled, None if out of time."""
        choices = choices.copy()
        relaxed = self._relax(choices, rounds=_NODE_ROUNDS)
        if relaxed is None:
            return None
        self.nodes += 1
        if relaxed.bound > self._cutoff:
            return []
        self._offer_rounded(relaxed)
        if self.nodes % _NODES_A_CLIMB == 0:
            self.climb(_NODE_ROUNDS_CLIMBED)
            if len(self._found) >= _ROUNDS:
                self.merge()
        if relaxed.bound > self._cutoff:
            return []
        edge = self._branching_edge(choices, relaxed)
        if edge is None:
            return []
        i, u, v = edge
        with_edge, without = choices.copy(), choices
        with_edge.forced[i][[u, v], [v, u]] = True
        without.allowed[i][[u, v], [v, u]] = False
        runs = _runs(relaxed.bound)
        return [(runs, with_edge), (runs, without)]

    def _branching_edge(self, choices: Choices, relaxed: _Relaxed) -> tuple[int, int, int] | None:
        """The most undecided column that is not forced, else an edge that is no column, None without any."""
        best: tuple[float, int, int, int] | None = None
        for i, ((u, v), x) in enumerate(zip(relaxed.point.edges, relaxed.point.x)):
            undecided = np.where(choices.forced[i][u, v], 1.0, np.abs(x - 0.5))
            if len(undecided) and (best is None or undecided.min() < best[0]):
                k = int(undecided.argmin())
                if not choices.forced[i][u[k], v[k]]:
                    best = float(undecided[k]), i, int(u[k]), int(v[k])
        if best is not None:
            return best[1:]
        for i, (allowed, forced) in enumerate(zip(choices.allowed, choices.forced)):
            for u, v in np.argwhere(np.triu(allowed & ~forced))[:1].tolist():
                return i, u, v
        return None

    def _force(self, choices: Choices, relaxed: _Relaxed) -> None:
        """Force the edges that are almost whole, or at least some of the surest."""
        for i, ((u, v), x) in enumerate(zip(relaxed.point.edges, relaxed.point.x)):
            open_ids = np.flatnonzero((x > 0.01) & ~choices.forced[i][u, v])
            surest = open_ids[np.argsort(-x[open_ids], kind="stable")]
            whole = int((x[surest] > 1 - _ROUNDING_ERROR).sum())
            more = max(1, int(np.ceil(_SHARE * (len(surest) - whole))))
            for k in surest[: whole + more].tolist():
                choices.force(i, int(u[k]), int(v[k]), self.graph.blocks[i].degree)

    def _relax(self, choices: Choices, *, rounds: int | None, at_root: bool = False) -> _Relaxed | None:
        """Solve the relaxation with cuts and columns; narrows the choices; None if out of time."""
        best, stalled = -(2**62), 0
        for done in itertools.count():
            if self.stopped:
                return None
            self.programs += 1
            point = self._program.solve(choices, seconds=self._task.remaining)
            if point is None:
                return None
            proven = certified(self.graph, self._program.cuts, point.prices, choices)
            stalled = 0 if proven.bound > best + _PROGRESS else stalled + 1
            best = max(best, proven.bound)
            self._proven = proven
            if at_root:
                self._raise_bound(_runs(best))
            choices.narrow(proven, self._cutoff)
            if best > self._cutoff:
                return _Relaxed(point, best, False)
            new = self._program.offer(proven, most=_MOST_COLUMNS)
            self._program.drop(point.prices, patience=_IDLE_CUTS)
            cuts = 0
            for i, (own, (u, v), x) in enumerate(zip(self.graph.blocks, point.edges, point.x)):
                violated = violated_cuts(
                    i, own.num_classes, own.num_ends, u, v, x, most=_MOST_CUTS, deadline=self._task.deadline
                )
                cuts += self._program.add(violated)
            if at_root:
                self._offer_rounded(_Relaxed(point, best, False))
            whole = point.fraction < _ROUNDING_ERROR and not cuts and not new
            if whole and point.lacking > _ROUNDING_ERROR:
                self._program.make_lacking_dearer()
                continue
            limit = stalled >= (_STALLED if at_root else _NODE_STALLED) or (rounds is not None and done + 1 >= rounds)
            if not (cuts or new) or limit:
                return _Relaxed(point, best, whole)
        return None

    def _offer_rounded(self, relaxed: _Relaxed) -> None:
        """Offer the order that a point suggests."""
        point = relaxed.point
        self._incumbent.offer(self.graph.order(rounded_sequences(self.graph, point.edges, point.x)))
        self._relaxed = relaxed

    def _raise_bound(self, bound: int) -> None:
        # Edges and nodes that only orders as good as the incumbent need are given up.
        self._incumbent.raise_bound(bound, self._reason(), method="tours", of_better=True)

    def _reason(self) -> Callable[[int], list[Claim]]:
        kind, text = (
            "relaxation",
            "prices of classes, subtours and blossoms, with which every edge was priced in whole numbers",
        )
        if self.nodes:
            kind, text = "search", "branch and cut over tours through the classes, every node priced in whole numbers"
        programs, nodes, cuts = self.programs, self.nodes, len(self._program.cuts)
        return lambda bound: [claim(self._task.problem, kind, bound, text, programs=programs, nodes=nodes, cuts=cuts)]


def _sizes(problem: Problem) -> tuple[int, int]:
    """The most classes of an unpinned block, and the pairs of classes whose distances the search holds."""
    sizes = [0 if block.pinned else len(problem.classes.of_block(b)) for b, block in enumerate(problem.blocks)]
    links = RunBorders(problem).links
    return max(sizes, default=0), sum(n**2 for n in sizes) + sum(sizes[b] * sizes[c] for b, c in links)


def _runs(bound: int) -> int:
    """Runs of an order with at least so many changes, in units of 1 / SCALE; they are half the changes."""
    return -(-bound // (2 * SCALE))
