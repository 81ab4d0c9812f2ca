"""Every order of every set of channels, with every range of every access: the window problem without words.

It knows nothing of cells of words, of moments or of the code of the product. A channel's loss is computed image by
image from raw scores.
"""

from __future__ import annotations

import itertools

import numpy as np


def losses_by_cell(scores: np.ndarray, pairs: list[tuple[int, int]], num_accesses: int) -> np.ndarray:
    """Losses per cell and channel from scores of shape (images, pairs, channels); bit a of a cell is access a."""
    table = np.zeros((2**num_accesses, scores.shape[2]))
    for cell in range(2**num_accesses):
        cut = [p for p, (t, j) in enumerate(pairs) if not (cell >> t & 1 and cell >> j & 1)]
        for image in scores:
            table[cell] += sum((image[p] for p in cut), np.zeros(scores.shape[2])) ** 2 / len(scores)
    return table


def least_value(
    scores: np.ndarray,
    pairs: list[tuple[int, int]],
    prices: np.ndarray,
    *,
    pinned: np.ndarray,
    full: np.ndarray,
) -> float:
    """The least value over all orders of all sets of channels, and all contiguous ranges of all accesses.

    Parameters
    ----------
    scores
        Shape (images, pairs, channels).
    pairs
        Per pair its writer and its reader.
    prices
        Shape (accesses, channels).
    pinned
        Per access whether it holds every stored channel.
    full
        Per channel whether every access holds it.
    """
    num_accesses, num_channels = prices.shape
    losses = losses_by_cell(scores, pairs, num_accesses)
    best = np.inf
    for count in range(num_channels + 1):
        ranges = [(0, 0), *((a, b) for a in range(count) for b in range(a + 1, count + 1))]
        choices = [[(0, count)] if pinned[a] else ranges for a in range(num_accesses)]
        chosen = np.array(list(itertools.product(*choices))).reshape(-1, num_accesses, 2)
        held = [(chosen[:, :, 0] <= place) & (place < chosen[:, :, 1]) for place in range(count)]
        for order in itertools.permutations(range(num_channels), count):
            missing = [channel for channel in range(num_channels) if channel not in order]
            if full[missing].any():
                continue
            totals = np.full(len(chosen), losses[0, missing].sum())
            for place, channel in enumerate(order):
                cells = held[place] @ (1 << np.arange(num_accesses))
                totals += losses[cells, channel] + held[place] @ prices[:, channel]
                if full[channel]:
                    totals[~held[place].all(axis=1)] = np.inf
            best = min(best, float(totals.min()))
    return best
