"""Reading and writing JSON files so that nothing is half-written and every error is one clear sentence."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from problems.errors import ProblemError


def write_text_atomically(text: str, path: str | Path) -> None:
    """As `write_bytes_atomically`, for text in UTF-8."""
    write_bytes_atomically(text.encode("utf-8"), path)


def write_bytes_atomically(content: bytes, path: str | Path) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part.

    A symbolic link stays, and the file it names is written. What is no regular file (a device, a pipe) cannot be
    replaced without destroying it, and is written to directly.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise ProblemError(f"cannot write {path}: {error.strerror}; choose a writable path") from error
    try:
        os.fchmod(handle, 0o666 & ~_umask())
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise ProblemError(f"cannot write {path}: {error.strerror}; choose a writable path") from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_json(path: str | Path, *, file_format: str, version: int) -> dict[str, Any]:
    """Read a JSON object and check its ``format`` and ``version`` fields.

    Raises
    ------
    ProblemError
        If the file cannot be read, is not JSON, is of another format, or newer than `version`.
    """
    document = read_any_json(path)
    if not isinstance(document, dict) or document.get("format") != file_format:
        raise ProblemError(f"{path} is no {file_format} file: its field 'format' does not say so")
    found = document.get("version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ProblemError(f"{path}: field 'version' is {found!r}; it must be a whole number from 1 up")
    if found > version:
        raise ProblemError(
            f"{path} has version {found}, newer than the {version} this program reads; upgrade upscale_opt"
        )
    return document


def read_any_json(path: str | Path) -> Any:
    """What a JSON file holds, whatever it is.

    Raises
    ------
    ProblemError
        If the file cannot be read or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ProblemError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"{path} is not valid JSON ({error}); write it anew") from error


def require_field(document: Any, field: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``document[field]``, checked to be there and of the given type; errors name the field.

    Raises
    ------
    ProblemError
        If the field is missing or of another type.
    """
    if not isinstance(document, dict):
        raise ProblemError(f"{where} must be an object, not {type(document).__name__}")
    if field not in document:
        raise ProblemError(f"{where} lacks the field {field!r}")
    value = document[field]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(k.__name__ for k in kinds)
        raise ProblemError(f"{where}: field {field!r} must be {expected}, not {type(value).__name__}")
    return value


def reject_unknown_fields(document: dict[str, Any], known: set[str], where: str) -> None:
    """Raise `ProblemError` if an object has a field that the format does not define."""
    unknown = sorted(set(document) - known)
    if unknown:
        raise ProblemError(f"{where} has an unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
