"""Names of the networks that are compared, and how their bars are drawn. Does not import torch."""

from __future__ import annotations

from upscale_opt.comparing.reports import FLOOR, HEURISTICS
from upscale_opt.pages.bars import BEFORE, CHOSEN, LIMIT, SIMPLE

UNPRUNED, BASELINE, UPSCALE = "unpruned", "baseline", "upscale"
_ROLES = {UNPRUNED: BEFORE, FLOOR: LIMIT, **dict.fromkeys((BASELINE, UPSCALE, *HEURISTICS), SIMPLE)}

WORDS = {
    UNPRUNED: "the network before pruning",
    BASELINE: "pruned; the original order, and a copy before every layer that drops channels",
    UPSCALE: "pruned; as UPSCALE exports it: greedy's order, views, and copies of everything else",
    "greedy": "UPSCALE's order of channels",
    "auto": "the order that this program finds",
    FLOOR: "as if no layer had to select its channels; no order is below",
    "bound": "proven: no order is below",
}
"""What the names on pages mean."""


def role(variant: str) -> str:
    """How a variant's bar is drawn (`upscale_opt.pages.bars.Bar`).

    Examples
    --------
    >>> role("unpruned"), role("greedy"), role("auto"), role("floor")
    ('before', 'simple', 'chosen', 'limit')
    """
    return _ROLES.get(variant, CHOSEN)
