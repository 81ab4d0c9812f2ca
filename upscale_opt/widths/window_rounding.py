"""Windows on the device's grid: multiples of a step where that costs less, and wider windows for what is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from problems.windows.decision import Windows, evaluate_windows
from problems.windows.problem import Role, WindowProblem


def rounded(problem: WindowProblem, windows: Windows, step: int, value: Callable[[Windows], float]) -> Windows:
    """Windows whose widths are multiples of a step where that lowers a value.

    First the number of stored channels is rounded, then every window in turn, inwards or outwards at either end.
    Of equal values, the one whose window starts at a multiple of the step wins.

    Parameters
    ----------
    problem
        The stream, with prices. They choose which channels are stored in addition, and which are not any more.
    windows
        Windows that keep the problem's pinned accesses and full channels.
    step
        Channels.
    value
        What counts: loss and price of windows.
    """
    best = without_unread(problem, windows)
    least = value(best)
    for stored in _restored(problem, best, step):
        own = value(stored)
        if own < least:
            best, least = stored, own
    for a in problem.free:
        for other in _resized(problem, best, a, step):
            own = value(other)
            tie = abs(own - least) <= problem.tolerance and _aligned(other, a, step) and not _aligned(best, a, step)
            if own < least - problem.tolerance or tie:
                best, least = other, own
    return without_unread(problem, best)


def without_unread(problem: WindowProblem, windows: Windows) -> Windows:
    """The same windows without stored channels that no reader holds: nobody misses them."""
    reads = np.array([access.role is Role.READER for access in problem.accesses])
    held = windows.masks(problem.num_channels)[:, windows.order]
    return _selected(windows, held[reads].any(axis=0))


def grown(
    problems: Sequence[WindowProblem],
    windows: tuple[Windows, ...],
    steps: Sequence[int],
    time: Callable[[tuple[Windows, ...]], float],
    budget: float,
) -> tuple[Windows, ...]:
    """Wider windows within a budget: again and again the growth that spares most loss for its time.

    Parameters
    ----------
    problems
        The streams.
    windows
        Per stream its windows; the same object is returned if none can grow.
    steps
        Per stream the channels by which a window grows.
    time
        Time of windows.
    budget
        In the same unit.
    """
    before, losses = time(windows), [evaluate_windows(*own).loss for own in zip(problems, windows, strict=True)]
    while True:
        best: tuple[float, int, Windows, float, float] | None = None
        for i, (problem, own, step) in enumerate(zip(problems, windows, steps, strict=True)):
            for wider in _grown(problem, own, step):
                loss = evaluate_windows(problem, wider).loss
                if loss >= losses[i] - problem.tolerance:
                    continue
                after = time((*windows[:i], wider, *windows[i + 1 :]))
                if after > budget:
                    continue
                rate = (losses[i] - loss) / max(after - before, 1e-12 * budget)
                if best is None or rate > best[0]:
                    best = (rate, i, wider, loss, after)
        if best is None:
            return windows
        _, i, wider, losses[i], before = best
        windows = (*windows[:i], wider, *windows[i + 1 :])


def _grown(problem: WindowProblem, windows: Windows, step: int) -> Iterator[Windows]:
    """Windows with one window wider by a step or up to the next multiple, or with more channels stored."""
    for a in problem.free:
        start, stop = int(windows.starts[a]), int(windows.stops[a])
        for more in {step, step - (stop - start) % step}:
            if start > 0:
                yield _moved(windows, a, max(0, start - more), stop)
            if stop < len(windows.order):
                yield _moved(windows, a, start, min(len(windows.order), stop + more))
    if len(windows.order) < problem.num_channels:
        wider = _stored_more(problem, windows, step - len(windows.order) % step)
        if wider is not None:
            yield wider


def _restored(problem: WindowProblem, windows: Windows, step: int) -> Iterator[Windows]:
    """Windows with the next smaller and the next larger multiple of the step stored."""
    over = len(windows.order) % step
    if over:
        smaller = _stored_less(problem, windows, over)
        larger = _stored_more(problem, windows, step - over)
        yield from (own for own in (smaller, larger) if own is not None)


def _stored_more(problem: WindowProblem, windows: Windows, number: int) -> Windows | None:
    """More stored channels, each in the cell where it costs least. None if there are not so many."""
    rest = np.setdiff1d(np.arange(problem.num_channels), windows.order)
    number = min(number, len(rest))
    if not number:
        return None
    held = windows.masks(problem.num_channels)[:, windows.order]
    new = np.concatenate([[True], (held[:, 1:] != held[:, :-1]).any(axis=0)])
    begins = np.flatnonzero(new)
    values = problem.values(held[:, begins].T)[:, rest]
    if not np.isfinite(values.min(axis=0)).all():
        return None
    gain = values.min(axis=0) - problem.dropped[rest]
    chosen = np.argsort(gain, kind="stable")[:number]
    order, starts, stops = windows.order, windows.starts.copy(), windows.stops.copy()
    cells = values.argmin(axis=0)[chosen]
    for k in np.argsort(-cells, kind="stable"):  # from the right, so that positions on the left stay
        place, cell = int(begins[cells[k]]), held[:, begins[cells[k]]]
        order = np.insert(order, place, rest[chosen[k]])
        behind = ~cell & (starts > place)
        starts[behind] += 1
        stops[behind | cell] += 1
    return Windows(order, starts, stops)


def _stored_less(problem: WindowProblem, windows: Windows, number: int) -> Windows | None:
    """Fewer stored channels: those whose loss grows least. None if all of them are needed."""
    held = windows.masks(problem.num_channels)
    cells, of_channel = np.unique(held[:, windows.order].T, axis=0, return_inverse=True)
    values = problem.values(cells)[of_channel, windows.order]
    rise = problem.dropped[windows.order] - values
    if np.isfinite(rise).sum() <= number:
        return None
    keep = np.ones(len(windows.order), dtype=bool)
    keep[np.argsort(rise, kind="stable")[:number]] = False
    return _selected(windows, keep)


def _resized(problem: WindowProblem, windows: Windows, a: int, step: int) -> Iterator[Windows]:
    """Windows with one window narrower or wider, by up to a step, so that its width is a multiple of the step."""
    start, stop = int(windows.starts[a]), int(windows.stops[a])
    over, stored = (stop - start) % step, len(windows.order)
    full = np.flatnonzero(problem.full[windows.order])
    first, last = (int(full[0]), int(full[-1]) + 1) if len(full) else (stored, 0)
    for change in {-over, step - over, 0} if over else {0}:
        for left in range(-step, step + 1):
            right = change - left
            low, high = start - left, stop + right
            if abs(right) > step or not 0 <= low < high <= stored or low > first or high < last:
                continue
            if (low, high) != (start, stop):
                yield _moved(windows, a, low, high)


def _moved(windows: Windows, a: int, start: int, stop: int) -> Windows:
    starts, stops = windows.starts.copy(), windows.stops.copy()
    starts[a], stops[a] = start, stop
    return Windows(windows.order, starts, stops)


def _selected(windows: Windows, keep: np.ndarray) -> Windows:
    """The windows with some of the stored channels."""
    if keep.all():
        return windows
    before = np.concatenate([[0], np.cumsum(keep)])
    return Windows(windows.order[keep], before[windows.starts], before[windows.stops])


def _aligned(windows: Windows, a: int, step: int) -> bool:
    return int(windows.starts[a]) % step == 0
