"""The forms an export can be saved in besides plan and weights: names, files, and what each needs installed.

No torch here, so that the command line can check its options before any work starts.
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
        What must be installed to write it, besides what upscale-opt needs anyway.
    extra
        Which extra of upscale-opt installs that.
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
    """Raise unless every form exists and what it needs is installed.

    Raises
    ------
    UpscaleError
        If a name is no form, or a package is missing.

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
            raise UpscaleError(
                f'the form {name!r} needs {" and ".join(missing)}: pip install "upscale-opt[{form.extra}]"'
            )
