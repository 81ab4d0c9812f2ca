"""Reading and writing JSON files. No file is left half-written, and every error is one clear sentence."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from problems.conversions import of_kind
from problems.errors import ProblemError


def write_text_atomically(text: str, path: str | Path) -> None:
    """As `write_bytes_atomically`, for text in UTF-8."""
    write_bytes_atomically(text.encode("utf-8"), path)


def write_bytes_atomically(content: bytes, path: str | Path) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part of it.

    A symbolic link stays a link: the file it names is written. A device or a pipe cannot be replaced in one step. It is
    written to directly.

    Raises
    ------
    ProblemError
        If the path cannot be written.
    """
    path = _path(path)
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


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold an exclusive lock while a file is read, changed and written again.

    The operating system keeps the lock on a file ``.NAME.lock`` beside `path`. That file stays. The lock ends with the
    process at the latest.

    Raises
    ------
    ProblemError
        If the lock file cannot be made, or cannot be locked.
    """
    path = Path(path)
    lock = path.parent / f".{path.name}.lock"
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ProblemError(f"cannot write {lock}: {error.strerror}; choose a writable path") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise ProblemError(f"cannot lock {lock}: {error.strerror}; choose a path on another file system") from error
        yield
    finally:
        os.close(handle)


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
    return require_format(read_any_json(path), path, file_format=file_format, version=version)


def require_format(document: Any, path: str | Path, *, file_format: str, version: int) -> dict[str, Any]:
    """A document of `read_any_json`, its ``format`` and ``version`` checked; errors as in `read_json`."""
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
    """The value in a JSON file, of any type.

    Raises
    ------
    ProblemError
        If the file cannot be read or is not standard JSON. Two things that Python would accept are refused: NaN and
        infinite numbers, and an object that has a field twice.
    """
    return json_of(read_bytes(path), path)


def read_bytes(path: str | Path) -> bytes:
    """The content of a file.

    Raises
    ------
    ProblemError
        If it cannot be read.
    """
    path = _path(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProblemError(f"cannot read {path}: {error.strerror}") from error


def _path(path: str | Path) -> Path:
    """The path, if the operating system accepts it."""
    found = Path(of_kind(path, (str, os.PathLike), "the path"))  # type: ignore[arg-type]
    if "\0" in str(found):
        raise ProblemError(f"the path is {str(found)!r}, which holds a zero byte; give another")
    return found


def json_of(content: bytes, where: str | Path) -> Any:
    """As `read_any_json`, for the content of a file; `where` names the file in errors."""
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_fields_once, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"{where} is not valid JSON ({error}); write it again") from error


def _fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the field {twice!r} twice")
    return fields


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits} is too large a number")
    return number


def require_field(document: Any, field: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``document[field]``, if it is there and of the given type; errors name the field.

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


def reject_unknown_fields(document: dict[str, Any], known: Collection[str], where: str) -> None:
    """Raise `ProblemError` if an object has a field that the format does not define."""
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise ProblemError(f"{where} has an unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}")
