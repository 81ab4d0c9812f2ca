"""The additional forms of a saved export: their names, files and required packages.

This module does not import torch, so the command line can check its options before any work starts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass

from upscale_opt.errors import UpscaleError


@dataclass(frozen=True)
class Form:
    """A saved form.

    Attributes
    ----------
    file
        Name of the file in an export's directory.
    packages
        Packages that must be installed to write this form, besides the requirements of upscale-opt.
    extra
        The extra of upscale-opt that installs these packages.
    """

    file: str
    packages: tuple[str, ...] = ()
    extra: str | None = None


FORMS = {
    "pt2": Form("model.pt2"),
    "torchscript": Form("model.ts"),
    "onnx": Form("model.onnx", ("onnx", "onnxscript", "onnxruntime"), "onnx"),
}


def require_forms(names: Iterable[str]) -> None:
    """Raise an error unless every form exists and its packages are installed.

    Raises
    ------
    UpscaleError
        If a form does not exist, or a package is missing.

    Examples
    --------
    >>> require_forms(["pt2", "torchscript"])
    >>> require_forms(["keras"])
    Traceback (most recent call last):
        ...
    upscale_opt.errors.UpscaleError: there is no form 'keras'; choose from pt2, torchscript, onnx
    """
    for name in names:
        if name not in FORMS:
            raise UpscaleError(f"there is no form {name!r}; choose from {', '.join(FORMS)}")
        form = FORMS[name]
        missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UpscaleError(f"the form {name!r} needs {' and '.join(missing)}: pip install -e '.[{form.extra}]'")
