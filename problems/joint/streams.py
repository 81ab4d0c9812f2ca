"""Windows of a stream as a joint problem, whose losses add up over accesses, and its choices as windows again."""

from __future__ import annotations

import numpy as np

from problems.blocks import Block
from problems.conversions import of_kind, whole_number
from problems.errors import ProblemError
from problems.joint.access import JointAccess
from problems.joint.decision import JointChoice, evaluation_of
from problems.joint.problem import JointProblem
from problems.objectives import VIEW
from problems.windows.decision import Windows
from problems.windows.problem import WindowProblem


def joint_of_windows(
    problem: WindowProblem, *, widths: list[int] | None = None, units: int = 1_000_000
) -> JointProblem:
    """The joint problem whose views are the windows of a stream.

    The importance of a channel for an access is what is lost if that access alone does not hold it. Losses of several
    accesses add up, which those of a window problem need not do: so the optimum is a start for `choose_windows`, and
    `problems.evaluate_windows` says what it is worth.

    Parameters
    ----------
    problem
        The windows. Pinned accesses hold every stored channel: their prices become the price of a stored channel.
        Prices that differ by channel are replaced by their mean. Channels that are `full` get an importance above all
        others together.
    widths
        Number of channels that every access holds that is not pinned, in order. Default: prices decide.
    units
        What the sum of all losses and prices becomes in whole numbers. Default one million.

    Raises
    ------
    ProblemError
        If every access is pinned, a price is negative, or there is not one width per access that is not pinned.

    Examples
    --------
    >>> from problems.windows.generators import random_windows
    >>> print(joint_of_windows(random_windows(8, 4)))
    windows-8x4-s0: 1 block, 8 channels, 4 accesses that choose, copies first
    """
    of_kind(problem, WindowProblem, "the problem")
    if not problem.free:
        raise ProblemError(f"{problem.name}: every access is pinned, so there is nothing to choose")
    if widths is not None and len(widths) != len(problem.free):
        raise ProblemError(f"{problem.name}: give {len(problem.free)} widths, one per access that is not pinned")
    prices = problem.channel_prices.mean(axis=1)
    if prices.min() < 0:
        raise ProblemError(f"{problem.name}: a price is negative, which the joint problem has no form for")
    scale = whole_number(units, "units", least=1) / max(problem.scale, 1e-300)
    without = ~np.eye(problem.num_accesses, dtype=bool)[list(problem.free)]
    losses = np.rint(np.maximum(problem.losses.of_cut(problem.cut(without)), 0) * scale).astype(np.int64)
    losses[:, problem.full] = 1 + losses.sum() + int(np.ceil(prices.sum() * scale)) * problem.num_channels
    accesses = [
        JointAccess(
            problem.accesses[a].name,
            (0,),
            row,
            None if widths is None else widths[i],
            price=int(np.rint(prices[a] * scale)),
        )
        for i, (a, row) in enumerate(zip(problem.free, losses))
    ]
    stored = int(np.rint(prices[problem.pinned].sum() * scale))
    block = Block("stream", problem.num_channels, required=tuple(np.flatnonzero(problem.full).tolist()))
    return JointProblem((block,), accesses, "copies", stored_price=stored, name=problem.name)


def windows_of(problem: WindowProblem, joint: JointProblem, choice: JointChoice) -> Windows:
    """The windows of a choice of `joint_of_windows`.

    Raises
    ------
    ProblemError
        If the choice does not fit, or an access is no view.
    """
    evaluation = evaluation_of(joint, choice)
    starts, stops = np.zeros((2, problem.num_accesses), dtype=np.int64)
    stops[:] = len(choice.order[0])
    for a, cost in zip(problem.free, evaluation.accesses, strict=True):
        if cost.mode != VIEW:
            raise ProblemError(f"access {cost.name!r} is no view, so it has no window; let the cost come first")
        starts[a], stops[a] = cost.start, cost.start + cost.span
    return Windows(choice.order[0], starts, stops)
