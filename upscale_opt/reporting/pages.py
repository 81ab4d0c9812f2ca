"""Chooses the page of what was found, and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from problems import Problem
from solvers import Result
from upscale_opt.arguments.checks import a_text
from upscale_opt.arguments.entrance import entrance
from upscale_opt.comparing.check_pages import check_page
from upscale_opt.comparing.comparison import Comparison
from upscale_opt.comparing.comparison_pages import Compared
from upscale_opt.comparing.order_checks import OrderCheck
from upscale_opt.errors import UpscaleError
from upscale_opt.pages.page import Page
from upscale_opt.widths.pages import page as speedup_page
from upscale_opt.widths.results import Speedup

Reported = Comparison | OrderCheck | Speedup | Mapping[str, Result]
"""What has a page."""


def reported(value: object, name: str) -> object:
    """Require something that has a page (`Reported`)."""
    results = isinstance(value, Mapping) and value and all(isinstance(own, Result) for own in value.values())
    if not results and not isinstance(value, (Comparison, OrderCheck, Speedup)):
        raise UpscaleError(
            f"{name} is {type(value).__name__}; give what compare, check_orders, speedup or MaskedModel.solve returned"
        )
    return value


def page_of(
    found: Reported, *, problems: Mapping[str, Problem] | None = None, title: str = "", command: str = ""
) -> Page:
    """The page of what was found; see `save_report`."""
    if isinstance(found, Comparison):
        shown = found.page
        return replace(shown, title=title or shown.title, command=command).page()
    if isinstance(found, OrderCheck):
        return check_page(found, title=title or "Check of predicted latencies", command=command)
    if isinstance(found, Speedup):
        return speedup_page(found, title=title or "Speedup", command=command)
    missing = [name for name in found if name not in (problems or {})]
    if problems is None or missing:
        raise UpscaleError(
            f"there is no problem of segment {next(iter(missing))!r}; also give problems, as extract made them"
        )
    first = next(iter(found.values()))
    solutions = {name: {result.solver: result} for name, result in found.items()}
    own = {name: problems[name] for name in found}
    return Compared(
        title or "Orders", own, solutions, [first.solver], first.evaluation.objective, command=command
    ).page()


@entrance(found=reported, title=a_text, command=a_text)
def save_report(
    found: Reported,
    path: str | Path,
    *,
    problems: Mapping[str, Problem] | None = None,
    title: str = "",
    command: str = "",
) -> None:
    """Write one page of HTML about what was found. It needs no other files and no network.

    Parameters
    ----------
    found
        What `compare`, `check_orders`, `speedup` or `MaskedModel.solve` returned.
    path
        The file to write.
    problems
        The problems behind the results of `MaskedModel.solve` (`MaskedModel.problems`). Not needed for anything else.
    title
        The network's name, for the heading.
    command
        The command that repeats it, to be shown on the page.

    Raises
    ------
    UpscaleError
        If `found` has no page, problems are missing, or the file cannot be written.

    Examples
    --------
    >>> import torch, upscale_opt
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    >>> masked = upscale_opt.prune(network, torch.zeros(1, 3, 16, 16), 0.5)
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     upscale_opt.save_report(masked.compare(measure=False), f"{folder}/report.html", title="a small network")
    ...     (Path(folder) / "report.html").read_text()[:15]
    '<!doctype html>'
    """
    page_of(found, problems=problems, title=title, command=command).save(path)
