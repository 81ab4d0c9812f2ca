"""Small random window problems, with the raw scores they are made of."""

from __future__ import annotations

import numpy as np

from problems import ChannelLosses, StreamAccess, WindowProblem


def small_problem(seed: int, *, num_accesses: int, num_channels: int, limits: bool = True):
    """A problem of random roles, some pinned accesses and full channels if `limits`, and its scores."""
    rng = np.random.default_rng(seed)
    roles = rng.choice(["writer", "reader"], size=num_accesses)
    roles[0], roles[-1] = "writer", "reader"
    pinned = rng.random(num_accesses) < (0.15 if limits else 0)
    full = rng.random(num_channels) < (0.1 if limits else 0)
    pairs = [
        (t, j)
        for t in range(num_accesses)
        for j in range(t, num_accesses)
        if (roles[t], roles[j]) == ("writer", "reader")
    ]
    scores = rng.standard_normal((3, len(pairs), num_channels)) * np.exp(
        rng.standard_normal((len(pairs), num_channels))
    )
    prices = rng.uniform(-0.1, 1.5, (num_accesses, num_channels)) * len(pairs) / num_accesses
    accesses = [StreamAccess(f"{role}{a}", role, bool(pinned[a])) for a, role in enumerate(roles)]
    problem = WindowProblem(accesses, ChannelLosses.from_scores(scores), prices, full)
    return problem, scores, pairs
