"""Calls functions in Python files that users name as ``path/to/file.py:function``: models, and data of one's own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from upscale_opt.errors import UpscaleError, first_line


def in_file(name: str) -> tuple[Path, str] | None:
    """The file and the function of a name such as ``path/to/file.py:function``, or None for any other name."""
    path, colon, function = name.rpartition(":")
    return (Path(path), function) if colon and path.endswith(".py") else None


def require_there(path: Path, kind: str, error: type[UpscaleError]) -> None:
    """Require a file; see `function_in`."""
    if not path.is_file():
        raise error(f"there is no file {path}; give path/to/file.py:{kind}")


def function_in(path: Path, name: str, kind: str, error: type[UpscaleError]) -> Callable[..., Any]:
    """Import a file and return one of its functions.

    Parameters
    ----------
    path, name
        The file, and the name of the function.
    kind
        What messages call the function, such as ``factory``.
    error
        The error to raise.

    Raises
    ------
    UpscaleError
        Of type `error`, if the file does not exist or cannot be imported, or has no such function.
    """
    require_there(path, kind, error)
    spec = importlib.util.spec_from_file_location(f"_upscale_opt_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise error(f"{path} is no Python file; give path/to/file.py:{kind}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look modules up there
    try:
        spec.loader.exec_module(module)
    except Exception as reason:
        del sys.modules[spec.name]
        raise error(f"{path} cannot be imported ({type(reason).__name__}: {first_line(reason)})") from reason
    found = getattr(module, name, None)
    if not callable(found):
        functions = [own for own, value in vars(module).items() if callable(value) and not own.startswith("_")]
        hint = f"it has {', '.join(functions)}" if functions else "it has none"
        raise error(f"{path} has no {kind} {name!r}; {hint}")
    return found
