"""What a run of SPDY has measured and chosen so far, in one file: a run that was killed goes on with the same numbers.

Times are never measured twice alike, and choices hang on them; without a record a second run would end elsewhere.
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
    """Plain values by name, written to disk as they are noted.

    Parameters
    ----------
    directory
        Where its file is. Default: in memory only.
    fingerprint
        Of all that the numbers depend on. A file of another run is not looked at, and replaced at the first note.

    Raises
    ------
    MaskError
        If there is a file that is no journal.
    """

    def __init__(self, directory: str | Path | None, fingerprint: str) -> None:
        self._path = None if directory is None else Path(directory) / JOURNAL_FILE
        self._fingerprint = fingerprint
        self._entries: dict[str, Any] = {}
        if self._path is not None and self._path.exists():
            self._entries = _entries(self._path, fingerprint)
        self.goes_on = bool(self._entries)

    def recall(self, name: str) -> Any:
        """What was noted under a name; None if nothing was."""
        return self._entries.get(name)

    def note(self, name: str, value: Any) -> None:
        """Keep a value of JSON's kinds under a name; None is not one that can be recalled."""
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


def _entries(path: Path, fingerprint: str) -> dict[str, Any]:
    """The entries in a file, if they are of this run."""
    where = "the journal"
    try:
        document = read_any_json(path)
        entries = require_field(document, "entries", dict, where)
        written = require_field(document, "fingerprint", str, where)
        reject_unknown_fields(document, ("format", "fingerprint", "entries"), where)
        if require_field(document, "format", str, where) != FORMAT:
            raise ProblemError("its field 'format' says something else")
    except ProblemError as error:
        raise MaskError(f"{path} cannot be read as the journal of a run; delete it") from error
    return entries if written == fingerprint else {}
