"""Records in one file what a run of SPDY has measured and chosen. A killed run resumes with the same numbers.

Measured times differ from run to run, and choices depend on them. Without this record, a second run would have another
result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from problems import ProblemError
from problems.files import read_any_json, reject_unknown_fields, require_field, write_text_atomically
from upscale_opt.errors import MaskError

JOURNAL_FILE = "journal.json"
FORMAT = "upscale_opt.allocation-journal"


class Journal:
    """Plain values by name. They are written to disk as soon as they are noted.

    Parameters
    ----------
    directory
        Directory of the file. Default: in memory only.
    fingerprint
        Fingerprint of all inputs that the numbers depend on. A file of another run is ignored, and replaced at the
        first note.

    Raises
    ------
    MaskError
        If the file exists but is not a journal.
    """

    def __init__(self, directory: str | Path | None, fingerprint: str) -> None:
        self._path = None if directory is None else Path(directory) / JOURNAL_FILE
        self._fingerprint = fingerprint
        self._entries: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self._entries = _entries(self._path, fingerprint)
        self.goes_on = bool(self._entries)

    def recall(self, name: str) -> Any:
        """The value that was noted under a name, or None."""
        return self._entries.get(name)

    def note(self, name: str, value: Any) -> None:
        """Store a value of a JSON type under a name. None is not a valid value, because `recall` cannot return it."""
        self._entries[name] = value
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MaskError(
                f"cannot write to {self._path.parent}: {error.strerror}; choose another directory"
            ) from error
        document = {"format": FORMAT, "fingerprint": self._fingerprint, "entries": self._entries}
        write_text_atomically(json.dumps(document, indent=1) + "\n", self._path)

    def discard(self) -> None:
        """Delete the file of a run that came to nothing, and its directory if nothing else is in it."""
        self._entries = {}
        if self._path is not None and self._path.exists():
            self._path.unlink()
            if not any(self._path.parent.iterdir()):
                self._path.parent.rmdir()


def _entries(path: Path, fingerprint: str) -> dict[str, Any]:
    """The entries of a file, if they belong to this run."""
    where = "the journal"
    try:
        document = read_any_json(path)
        entries = require_field(document, "entries", dict, where)
        written = require_field(document, "fingerprint", str, where)
        reject_unknown_fields(document, ("format", "fingerprint", "entries"), where)
        if require_field(document, "format", str, where) != FORMAT:
            raise ProblemError("its field 'format' is wrong")
    except ProblemError as error:
        raise MaskError(f"{path} cannot be read as the journal of a run; delete it") from error
    return entries if written == fingerprint else {}
