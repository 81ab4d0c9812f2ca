"""Local search: accesses choose their sets along a line of channels in turn; then the line changes, and so on.

The lines are orders of all channels of each block. Every access takes the best set that `solvers.joint.kept_sets`
finds, given the sets of the others, until none changes. Then a few channels move: at random, or to the places where the
open accesses want them most. What is not better is kept now and then (`solvers.common.climbing.Acceptance`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from problems.joint.decision import JointChoice, evaluate_joint
from problems.joint.problem import JointProblem
from solvers.common.climbing import Acceptance
from solvers.common.clock import time_now
from solvers.joint.kept_sets import AccessLine, line_of, stored_by

_MOST_SWEEPS = 4  # sweeps: over all accesses, until their sets are left as they are; by hand
_MOST_SPECTRAL = 600  # channels: of a block whose eigenvectors are computed; by hand
_WORK_OF_SET = 1e-4  # work: of the best set of one access (estimate)


class JointClimb:
    """The search of one problem.

    Parameters
    ----------
    problem
        The problem.
    rng
        Random numbers.
    deadline
        A reading of the clock.
    offer
        Told of every choice that is the best so far, with its value.

    Attributes
    ----------
    best, value
        The best choice and its value; None and infinite before the first.
    steps
        How often the lines have been changed.
    """

    def __init__(
        self,
        problem: JointProblem,
        rng: np.random.Generator,
        deadline: float,
        offer: Callable[[JointChoice, int], None],
    ) -> None:
        self._problem, self._rng, self._deadline, self._offer = problem, rng, deadline, offer
        self.best: JointChoice | None = None
        self.value: float = np.inf
        self.steps = 0

    def take(self, choice: JointChoice) -> int:
        """Remember a choice if it is the best so far; returns its value."""
        value = evaluate_joint(self._problem, choice).value
        if value < self.value:
            self.best, self.value = choice, value
            self._offer(choice, value)
        return value

    def run(self, starts: list[JointChoice], patience: int) -> None:
        """Search until the deadline, or until so many changes of the lines were in vain.

        Parameters
        ----------
        starts
            Choices to begin with, at least one.
        patience
            Changes in vain.
        """
        found = []
        for start in starts:
            self.take(start)
            found.append(self._settle(self._lines_of(start), list(start.kept)))
        for lines in self._other_lines():
            found.append(self._settle(lines, list(self._problem.largest_kept())))
        value, lines, kept = min(found, key=lambda own: own[0])
        acceptance = Acceptance(value, self._rng)
        while acceptance.idle < patience and time_now() < self._deadline:
            self.steps += 1
            changed = [own.copy() for own in lines]
            self._change(changed, kept)
            price, new_lines, new_kept = self._settle(changed, kept)
            if acceptance.accepts(price):
                lines, kept = new_lines, new_kept
            elif acceptance.returns() and self.best is not None:
                lines, kept = self._lines_of(self.best), list(self.best.kept)

    def _settle(
        self, lines: list[np.ndarray], kept: list[np.ndarray]
    ) -> tuple[int, list[np.ndarray], list[np.ndarray]]:
        """Let accesses choose in turn along the lines; the value, the lines, and the sets in the end."""
        problem, sets = self._problem, list(kept)
        for _ in range(_MOST_SWEEPS):
            changed = False
            for a in self._rng.permutation(problem.num_accesses).tolist():
                if time_now(_WORK_OF_SET) >= self._deadline:
                    break
                positions = line_of(problem, a, lines)
                stored = stored_by(problem, sets, but=a)
                along = np.concatenate([stored[b][lines[b]] for b, _ in problem.slots[a]])
                own = AccessLine.of(problem, a, positions, along)
                chosen = own.best(sets[a][positions])
                if not np.array_equal(chosen, sets[a][positions]):
                    changed = True
                    mask = np.zeros(len(positions), dtype=bool)
                    mask[positions] = chosen
                    sets[a] = mask
            if not changed:
                break
        needed = problem.with_kept(sets).stored
        choice = JointChoice([line[np.isin(line, own)] for line, own in zip(lines, needed)], sets)
        return self.take(choice), lines, sets

    def _lines_of(self, choice: JointChoice) -> list[np.ndarray]:
        """The order of a choice, and behind it the channels that it does not store."""
        return [
            np.concatenate([own, np.setdiff1d(np.arange(block.size), own)])
            for block, own in zip(self._problem.blocks, choice.order.channels)
        ]

    def _other_lines(self) -> list[list[np.ndarray]]:
        """Channels by their importance for all accesses together, and by the first eigenvector of their likeness."""
        sums, spectral = [], []
        for b, block in enumerate(self._problem.blocks):
            rows = self._importance(b)
            order = np.argsort(-rows.sum(axis=0), kind="stable")
            sums.append(np.arange(block.size) if block.pinned else order)
            spectral.append(sums[-1] if block.pinned or block.size > _MOST_SPECTRAL else _spectral(rows))
        return [sums, spectral]

    def _importance(self, b: int) -> np.ndarray:
        """Importances of the channels of a block for its readers, shape (readers, channels)."""
        rows = [
            self._problem.accesses[a].importance[positions]
            for a, slots in enumerate(self._problem.slots)
            for own, positions in slots
            if own == b
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, self._problem.blocks[b].size)

    def _change(self, lines: list[np.ndarray], kept: list[np.ndarray]) -> None:
        """Move some channels of one block that is not pinned."""
        free = [b for b, block in enumerate(self._problem.blocks) if not block.pinned and block.size > 1]
        if not free:
            return
        b = int(self._rng.choice(free))
        line, rng = lines[b], self._rng
        kind = rng.integers(4)
        if kind == 0:
            lines[b] = self._to_best_places(b, line, kept)
            return
        length = min(len(line) - 1, int(rng.geometric(0.4 if kind == 1 else 0.15)))
        start = int(rng.integers(len(line) - length + 1))
        part, rest = line[start : start + length], np.delete(line, np.s_[start : start + length])
        if kind == 3:
            lines[b] = np.concatenate([line[:start], part[::-1], line[start + length :]])
            return
        place = int(rng.integers(len(rest) + 1))
        lines[b] = np.insert(rest, place, part)

    def _to_best_places(self, b: int, line: np.ndarray, kept: list[np.ndarray]) -> np.ndarray:
        """Move a few random channels to places where the open accesses gain most from them.

        An access gains the importance of a channel less that of the least important one it keeps.
        """
        count = min(len(line) - 1, int(self._rng.geometric(0.3)))
        moved = self._rng.choice(line, count, replace=False)
        rest = line[~np.isin(line, moved)]
        opened, gains = [], []
        for a, slots in enumerate(self._problem.slots):
            access = self._problem.accesses[a]
            edge = int(access.importance[kept[a]].min())
            for positions in (part for own, part in slots if own == b):
                place = np.flatnonzero(kept[a][positions][rest])
                if len(place):
                    spots = np.arange(len(rest) + 1)
                    opened.append((spots >= place[0]) & (spots <= place[-1] + 1))
                    gains.append(access.importance[positions][moved] - edge)
        if not opened:
            return line
        worth = np.array(opened, dtype=np.float64).T @ np.array(gains, dtype=np.float64)
        worth += 1e-3 * self._rng.random(worth.shape)
        for place, channel in sorted(zip(worth.argmax(axis=0).tolist(), moved.tolist()), reverse=True):
            rest = np.insert(rest, place, channel)
        return rest


def _spectral(rows: np.ndarray) -> np.ndarray:
    """Channels in the order of the second eigenvector of the Laplacian of their likeness (Atkins et al., 1998).

    J. E. Atkins, E. G. Boman and B. Hendrickson, "A spectral algorithm for seriation and the consecutive ones problem",
    SIAM Journal on Computing 28.
    """
    likeness = rows.T @ rows
    laplacian = np.diag(likeness.sum(axis=1)) - likeness
    return np.argsort(np.linalg.eigh(laplacian)[1][:, min(1, len(likeness) - 1)], kind="stable")
