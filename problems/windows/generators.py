"""Seeded random window problems."""

from __future__ import annotations

import numpy as np

from problems.conversions import real, whole_number
from problems.errors import ProblemError
from problems.windows.losses import ChannelLosses
from problems.windows.problem import Role, StreamAccess, WindowProblem, pairs_of


def random_windows(
    num_channels: int,
    num_accesses: int,
    *,
    images: int = 16,
    spread: float = 1.0,
    reader_agreement: float = 0.6,
    writer_agreement: float = 0.1,
    price: float = 0.3,
    seed: int = 0,
) -> WindowProblem:
    """A stream of residual blocks: writers and readers in turn, beginning with a writer.

    A pair's score on an image is a normal number times the log-normal weights of its writer and its reader in the
    channel. The first writer weighs five times as much as the others. On one image, half of the variance of the normal
    number is common to all pairs.

    Parameters
    ----------
    num_channels, num_accesses
        Size of the problem, at least 1 each.
    images
        Number of images, at least 1.
    spread
        Standard deviation of the logarithms of the weights.
    reader_agreement, writer_agreement
        Correlation of the logarithms of two readers' weights, and of two writers', in [0, 1].
    price
        The mean price of holding a channel in all accesses, as a share of the mean loss without the channel.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If a number is out of its range.

    Notes
    -----
    In trained residual networks readers agree about the channels (rank correlations of 0.5 to 0.7) and writers hardly
    do. The defaults imitate that.

    Examples
    --------
    >>> print(random_windows(8, 4))
    windows-8x4-s0: 8 channels, 2 writers, 2 readers, 3 pairs
    """
    channels = whole_number(num_channels, "num_channels", least=1)
    size = whole_number(num_accesses, "num_accesses", least=1)
    images = whole_number(images, "images", least=1)
    for what, share in (("reader_agreement", reader_agreement), ("writer_agreement", writer_agreement)):
        if not 0 <= real(share, what) <= 1:
            raise ProblemError(f"{what} is {share}; it must lie between 0 and 1")
    rng = np.random.default_rng(whole_number(seed, "seed", least=0))
    roles = [Role.READER if a % 2 else Role.WRITER for a in range(size)]
    agreement = np.where(np.arange(size) % 2, reader_agreement, writer_agreement)[:, np.newaxis]
    common = rng.standard_normal((2, channels))[np.arange(size) % 2]
    own = rng.standard_normal((size, channels))
    weights = np.exp(real(spread, "spread") * (np.sqrt(agreement) * common + np.sqrt(1 - agreement) * own))
    weights[0] *= 5
    pairs = pairs_of(roles)
    signs = rng.standard_normal((images, 1, channels)) + rng.standard_normal((images, len(pairs), channels))
    scores = np.sqrt(0.5) * signs * weights[pairs[:, 0]] * weights[pairs[:, 1]]
    losses = ChannelLosses.from_scores(scores)
    level = real(price, "price") * float(losses.total.mean()) / size
    accesses = [StreamAccess(f"{role}{a}", role) for a, role in enumerate(roles)]
    prices = level * rng.uniform(0.5, 1.5, size)
    return WindowProblem(accesses, losses, prices, name=f"windows-{channels}x{size}-s{seed}")
