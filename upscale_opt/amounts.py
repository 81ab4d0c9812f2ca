"""Amounts: how many channels a pruning amount removes. The one function for everything that counts channels."""

from __future__ import annotations

import math
from fractions import Fraction

from upscale_opt.errors import MaskError


def require_amount(amount: float | str) -> Fraction:
    """An amount as an exact fraction, taken from its decimal text.

    Raises
    ------
    MaskError
        If it is no number in [0, 1).
    """
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
