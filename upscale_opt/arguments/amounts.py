"""Pruning amounts: how many channels an amount removes. All code that counts channels uses these functions."""

from __future__ import annotations

import math
from fractions import Fraction

from upscale_opt.arguments.checks import an_amount, whole
from upscale_opt.errors import MaskError


def require_amount(amount: float | str) -> Fraction:
    """Return an amount as an exact fraction, taken from its decimal text.

    Raises
    ------
    MaskError
        If the amount is not a number in [0, 1).
    """
    an_amount(amount, "amount")
    try:
        fraction = Fraction(str(amount))
    except (ValueError, ZeroDivisionError) as error:
        raise MaskError(f"amount {amount!r} is no number; give the share of channels to remove, such as 0.5") from error
    if not 0 <= fraction < 1:
        raise MaskError(f"amount {amount} is outside [0, 1); give the share of channels to remove, such as 0.5")
    return fraction


def num_removed(amount: float | str, num_channels: int) -> int:
    """Return how many of `num_channels` channels `amount` removes.

    The number is rounded down, and at least one channel is kept.

    Raises
    ------
    MaskError
        If the amount is not a number in [0, 1).

    Examples
    --------
    >>> num_removed(0.5, 7), num_removed(0.9, 10), num_removed(0.99, 1)
    (3, 9, 0)
    """
    return min(math.floor(require_amount(amount) * num_channels), num_channels - 1)


def require_rounding(round_to: int, min_channels: int) -> None:
    """Check that both options of `round_up` are whole numbers of at least 1.

    Raises
    ------
    MaskError
        If one of them is not.
    """
    for name, number in (("round_to", round_to), ("min_channels", min_channels)):
        whole(1, MaskError)(number, name)


def round_up(num_kept: int, num_channels: int, *, round_to: int = 1, min_channels: int = 1) -> int:
    """Return how many of `num_channels` channels to keep if the caller asked for `num_kept`.

    The result is the smallest multiple of `round_to` that is at least `num_kept` and at least `min_channels`. It is
    never more than `num_channels`.

    Raises
    ------
    MaskError
        If `round_to` or `min_channels` is below 1.

    Examples
    --------
    >>> [round_up(kept, 20, round_to=8) for kept in (3, 8, 9, 17)]
    [8, 8, 16, 20]
    >>> round_up(3, 20, min_channels=5), round_up(3, 4, round_to=8, min_channels=5)
    (5, 4)
    """
    require_rounding(round_to, min_channels)
    wanted = max(num_kept, min_channels)
    return min(-(-wanted // round_to) * round_to, num_channels)
