"""Amounts: how many channels a pruning amount removes. The one function for everything that counts channels."""

from __future__ import annotations

import math
from fractions import Fraction

from upscale_opt.arguments.checks import an_amount, whole
from upscale_opt.errors import MaskError


def require_amount(amount: float | str) -> Fraction:
    """An amount as an exact fraction, taken from its decimal text.

    Raises
    ------
    MaskError
        If it is no number in [0, 1).
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
    """Channels that `amount` removes of `num_channels`: rounded down, and at least one is kept.

    Raises
    ------
    MaskError
        If the amount is no number in [0, 1).

    Examples
    --------
    >>> num_removed(0.5, 7), num_removed(0.9, 10), num_removed(0.99, 1)
    (3, 9, 0)
    """
    return min(math.floor(require_amount(amount) * num_channels), num_channels - 1)


def require_rounding(round_to: int, min_channels: int) -> None:
    """Raise unless both numbers of `round_up` are at least 1.

    Raises
    ------
    MaskError
        If one is not.
    """
    for name, number in (("round_to", round_to), ("min_channels", min_channels)):
        whole(1, MaskError)(number, name)


def round_up(num_kept: int, num_channels: int, *, round_to: int = 1, min_channels: int = 1) -> int:
    """Channels to keep of `num_channels` where `num_kept` were asked for.

    The next multiple of `round_to` that is at least `num_kept` and `min_channels`, but never more than there are.

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
