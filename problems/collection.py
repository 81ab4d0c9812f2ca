"""The public instance library: `load` an instance by name, list the `names`, look up the `best_known` solution.

    >>> problem = load("resnet50/l2-0.50/layer2")

``library/index.json`` says where every instance comes from; ``library/README.md`` describes the families. The files of
a family are in one archive, from which single files are read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from problems.archives import Archive, write_archive
from problems.conversions import text
from problems.errors import ProblemError
from problems.files import (
    read_bytes,
    read_json,
    reject_unknown_fields,
    require_field,
    write_bytes_atomically,
    write_text_atomically,
)
from problems.instances import instance_in
from problems.library_entries import Entry, entry_from_dict, entry_to_dict
from problems.objectives import OBJECTIVES, objective_named
from problems.problem import Problem
from problems.signatures import content_hash
from problems.solutions import Solution, solutions_in, write_solutions

FORMAT = "upscale_opt.library"
VERSION = 1
ARCHIVES = "archives"
"""Folder of the archives, one per family."""


@dataclass(frozen=True)
class Collection:
    """A directory of instances with an index. The functions of this module use the library of the package.

    The two files of an instance, ``NAME.json`` and ``NAME.sol.json``, are in the archive of its family, or in the
    directory itself. A file in the directory counts more than one in the archive, so that tools can write single files,
    and `pack` them in the end.
    """

    directory: Path

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The entries of the index, by name, in the order of the index.

        Raises
        ------
        ProblemError
            If the index cannot be read or a field is wrong. The message names the field.
        """
        path = self.directory / "index.json"
        document = read_json(path, file_format=FORMAT, version=VERSION)
        try:
            reject_unknown_fields(document, {"format", "version", "instances"}, "the index")
            found: dict[str, Entry] = {}
            for i, raw in enumerate(require_field(document, "instances", list, "the index")):
                where = f"instances[{i}]"
                entry = entry_from_dict(raw, where)
                if found.setdefault(entry.name, entry) is not entry:
                    raise ProblemError(f"{where}: field 'name' is {entry.name!r} a second time")
            return found
        except ProblemError as error:
            raise ProblemError(f"{path}: {error}") from error

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families, in the order of the index."""
        return tuple(dict.fromkeys(entry.family for entry in self.entries.values()))

    def names(self, family: str | None = None) -> list[str]:
        """As `problems.collection.names`."""
        if family is None:
            return list(self.entries)
        found = [name for name, entry in self.entries.items() if f"{entry.family}/".startswith(f"{family}/")]
        if not found:
            raise ProblemError(f"the library has no family {family!r}; choose one of {', '.join(self.families)}")
        return found

    def load(self, name: str) -> Problem:
        """As `problems.collection.load`."""
        content = self._content(name, self.path(name))
        if content is None:
            raise ProblemError(
                f"{self.path(name)} is missing, also in {self._archive_of(name).path}; restore the archive"
            )
        problem = instance_in(content, self.path(name))
        if content_hash(problem) != self.entry(name).hash:
            raise ProblemError(
                f"{self.path(name)} is not the instance that the index lists under {name!r}: its content hash differs; "
                "restore the file, or write the index again"
            )
        return problem

    def solutions(self, name: str, problem: Problem | None = None) -> dict[str, Solution]:
        """As `problems.collection.solutions`. Give the problem if you have it: then it is not read again."""
        content = self.stated(name)
        return {} if content is None else solutions_in(content, self.solutions_path(name), problem or self.load(name))

    def stated(self, name: str) -> bytes | None:
        """The file of solutions of an instance, as it is written; None if there is none. Errors as in `entry`."""
        return self._content(name, self.solutions_path(name))

    def save(self, name: str, directory: str | Path) -> list[Path]:
        """As `problems.collection.save`."""
        target, written = Path(directory), []
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProblemError(f"cannot write to {target}: {error.strerror}; choose another directory") from error
        for path in (self.path(name), self.solutions_path(name)):
            content = self._content(name, path)
            if content is not None:
                written.append(target / path.name)
                write_bytes_atomically(content, written[-1])
        return written

    def write_solutions(self, name: str, solutions: Mapping[str, Solution], problem: Problem) -> None:
        """Write the best-known solutions of an instance as a file of the directory; errors as in `entry`."""
        path = self.solutions_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_solutions(solutions, problem, path)

    def drop(self, names: Iterable[str], *, solutions_only: bool = False) -> None:
        """Remove the files of instances of the index, or only their solutions, from directory and archives."""
        for name in names:
            paths, archive = [self.path(name), self.solutions_path(name)][solutions_only:], self._archive_of(name)
            gone = {self._member(path) for path in paths} & archive.names
            if gone:
                write_archive({own: archive.read(own) for own in archive.names - gone}, archive.path)
                self._archives.pop(self.entry(name).family)
            for path in paths:
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, self.directory)

    def pack(self) -> int:
        """Move the files of all instances from the directory into the archives; returns the number of files moved.

        An archive is written in one step, before the files that it takes in are removed, so that an interrupt loses
        nothing. What the index does not list leaves the archives.
        """
        moved = 0
        for family in self.families:
            archive, loose, files = self._archive(family), [], {}
            for name in self._exactly(family):
                for path in (self.path(name), self.solutions_path(name)):
                    content = self._content(name, path)
                    if content is not None:
                        files[self._member(path)] = content
                    loose += [path] if path.exists() else []
            if loose or archive.names != files.keys():
                archive.path.parent.mkdir(exist_ok=True)
                write_archive(files, archive.path)
                self._archives.pop(family)
            for path in loose:
                path.unlink()
            for folder in sorted({path.parent for path in loose}, reverse=True):
                _remove_empty(folder, self.directory)
            moved += len(loose)
        for path in (self.directory / ARCHIVES).glob("*.zip"):
            if path not in {self._archive(family).path for family in self.families}:
                path.unlink()
        return moved

    def _exactly(self, family: str) -> list[str]:
        return [name for name, entry in self.entries.items() if entry.family == family]

    @cached_property
    def _archives(self) -> dict[str, Archive]:
        return {}

    def _archive(self, family: str) -> Archive:
        """The archive of a family. It stays open."""
        if family not in self._archives:
            self._archives[family] = Archive(self.directory / ARCHIVES / f"{family.replace('/', '-')}.zip")
        return self._archives[family]

    def _archive_of(self, name: str) -> Archive:
        return self._archive(self.entry(name).family)

    def _member(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _content(self, name: str, path: Path) -> bytes | None:
        """A file of an instance, from the directory or else from its archive; None if it is in neither."""
        if path.exists():
            return read_bytes(path)
        archive, member = self._archive_of(name), self._member(path)
        return archive.read(member) if member in archive.names else None

    def objectives(self, name: str) -> tuple[str, ...]:
        """The objectives for which an instance is in the library: `latency` if it has cost tables, and all others.

        The index may say less. The others are left out if the library also has the instance without tables (``NAME``
        for ``NAME-steps``).
        """
        stated = self.entry(name).objectives
        if stated is not None:
            return stated
        tables, (without, _, _) = self.entry(name).tables, name.rpartition("-")
        others = not (tables and without in self.entries)
        return tuple(own.name for own in OBJECTIVES.values() if (tables if own.uses_tables else others))

    def entry(self, name: str) -> Entry:
        """The entry of one instance in the index.

        Raises
        ------
        ProblemError
            If there is no instance of that name. The message lists similar names.
        """
        if text(name, "the name of an instance") not in self.entries:
            near = difflib.get_close_matches(name, self.entries, n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "problems.collection.names() lists them"
            raise ProblemError(f"the library has no instance {name!r}; {hint}")
        return self.entries[name]

    def path(self, name: str) -> Path:
        """The instance file of a name, if it is not in an archive; errors as in `entry`."""
        return self.directory / f"{self.entry(name).name}.json"

    def solutions_path(self, name: str) -> Path:
        """The file of the best-known solutions of a name, if it is not in an archive; errors as in `entry`."""
        return self.directory / f"{self.entry(name).name}.sol.json"

    def write_index(self, entries: Iterable[Entry]) -> None:
        """Write the index, atomically. This object keeps the entries that it has read before."""
        lines = ",\n".join("  " + json.dumps(entry_to_dict(entry)) for entry in entries)
        head = json.dumps({"format": FORMAT, "version": VERSION})
        write_text_atomically(f'{head[:-1]},\n "instances": [\n{lines}\n ]}}\n', self.directory / "index.json")


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove a folder and the folders above it, up to `top`, as long as they are empty."""
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


LIBRARY = Collection(Path(__file__).parent / "library")
"""The library that comes with the package."""


def load(name: str) -> Problem:
    """An instance of the library.

    Parameters
    ----------
    name
        One of `names`.

    Raises
    ------
    ProblemError
        If there is no instance of that name (the message lists similar names), its file cannot be read, or the file is
        not the instance that the index lists.

    Examples
    --------
    >>> print(load("resnet50/l2-0.50/layer2"))
    resnet50/l2-0.50/layer2: 1 block, 512 channels (502 stored), 5 accesses, 31 classes
    """
    return LIBRARY.load(name)


def names(family: str | None = None) -> list[str]:
    """The names of the library's instances: all, those of one family, or of a group of families (``classical``).

    Raises
    ------
    ProblemError
        If there is no such family. The message lists the families.

    Examples
    --------
    >>> names("classical/random")[:2]
    ['classical/random/8x8-s0', 'classical/random/8x8-s1']
    """
    return LIBRARY.names(family)


def best_known(name: str, objective: str) -> Solution | None:
    """The best known order of an instance for an objective, with value and bound; None if it has not been solved.

    Raises
    ------
    ProblemError
        If there is no instance of that name, no such objective, or the file of solutions is wrong. Every order is
        checked and its value computed again.

    Examples
    --------
    >>> solution = best_known("classical/random/8x8-s0", "copies")
    >>> solution.value, solution.proven
    (14, True)
    """
    return LIBRARY.solutions(name).get(objective_named(objective).name)


def solutions(name: str) -> dict[str, Solution]:
    """The best known solutions of an instance, by objective; errors as in `best_known`."""
    return LIBRARY.solutions(name)


def save(name: str, directory: str | Path) -> list[Path]:
    """Write an instance of the library, and its best-known solutions, as files; returns their paths.

    The directory is made if it is not there. Commands that take files can read them: ``python -m solvers``, and
    ``python -m problems.checking``.

    Raises
    ------
    ProblemError
        If there is no instance of that name, or the directory cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> [path.name for path in save("resnet50/l2-0.50/layer2", tempfile.mkdtemp())]
    ['layer2.json', 'layer2.sol.json']
    """
    return LIBRARY.save(name, directory)
