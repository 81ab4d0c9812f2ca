"""Writes matplotlib figures as PNG, SVG or PDF, the same bytes for the same figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from problems import ProblemError
from problems.files import write_bytes_atomically
from upscale_opt.errors import UpscaleError

FIGURE_FORMS = ("png", "svg", "pdf")
_SETTINGS = {"savefig.dpi": 130, "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "upscale_opt"}
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def form_of(path: str | Path) -> str:
    """The form that a file's ending says.

    Raises
    ------
    UpscaleError
        If it says none of `FIGURE_FORMS`.

    Examples
    --------
    >>> form_of("figures/latency.PDF")
    'pdf'
    """
    form = Path(path).suffix.lower().lstrip(".")
    if form not in FIGURE_FORMS:
        raise UpscaleError(f"{path} is no picture; end its name with .png, .svg or .pdf")
    return form


def require_forms_of_figures(forms: Sequence[str]) -> tuple[str, ...]:
    """The forms asked for, each once; PNG if there are none.

    Raises
    ------
    UpscaleError
        If there is no such form.
    """
    for form in forms:
        if form not in FIGURE_FORMS:
            raise UpscaleError(f"there is no form {form!r} of pictures; choose from {', '.join(FIGURE_FORMS)}")
    return tuple(dict.fromkeys(forms)) or FIGURE_FORMS[:1]


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure in the form that the file's ending says. Text in SVG and PDF stays text.

    Raises
    ------
    UpscaleError
        If the ending is unknown, or the file cannot be written.
    """
    form, content = form_of(path), io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(content, format=form, metadata=_METADATA[form])
    try:
        write_bytes_atomically(content.getvalue(), path)
    except ProblemError as error:
        raise UpscaleError(str(error)) from error
