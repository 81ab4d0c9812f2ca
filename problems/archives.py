"""An archive of small files in one ZIP file: read one at a time, written in one step, the same bytes every time."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from problems.errors import ProblemError
from problems.files import write_bytes_atomically

_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP file can say: equal files make equal archives
_LEVEL = 9


class Archive:
    """The files of an archive. Nothing is read before a file is asked for, and then only that file.

    Parameters
    ----------
    path
        The ZIP file. If there is none, the archive is empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        if not self.path.exists():
            return None
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ProblemError(f"{self.path} cannot be read as an archive ({error}); restore the file") from error

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of its files.

        Raises
        ------
        ProblemError
            If it is there but cannot be read.
        """
        return frozenset(() if self._zip is None else self._zip.namelist())

    def read(self, name: str) -> bytes:
        """The content of one file.

        Raises
        ------
        ProblemError
            If the archive has no such file, or it is damaged.
        """
        if name not in self.names:
            raise ProblemError(f"{self.path} has no file {name!r}; restore the archive")
        assert self._zip is not None
        try:
            return self._zip.read(name)
        except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise ProblemError(f"{self.path}: {name} cannot be read ({error}); restore the archive") from error


def write_archive(files: Mapping[str, bytes], path: str | Path) -> None:
    """Write an archive, in one step. Files are sorted by name, and their dates are not kept.

    Raises
    ------
    ProblemError
        If the path cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.zip"
    >>> write_archive({"b": b"2", "a": b"1"}, path)
    >>> sorted(Archive(path).names), Archive(path).read("b")
    (['a', 'b'], b'2')
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, files[name], compresslevel=_LEVEL)
    write_bytes_atomically(buffer.getvalue(), path)
