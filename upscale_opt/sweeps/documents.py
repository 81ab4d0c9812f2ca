"""Reads sweep files: YAML, JSON or TOML, as values that know where they stand, so that errors name key and line."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from problems.files import read_bytes
from upscale_opt.arguments.checks import described
from upscale_opt.errors import SweepError

KINDS = (".yaml", ".yml", ".json", ".toml")
MOST_VALUES = 200_000
"""A file with more values is refused: a few aliases of YAML can stand for billions."""


@dataclass(frozen=True)
class Value:
    """A value of a sweep file, and where it stands.

    Attributes
    ----------
    content
        None, a Boolean, a number, a text, a tuple of `Value`, or a dictionary of keys to `Value`.
    file
        Name of the file, or ``the command line``.
    key
        The path to the value, such as ``masks[0].mode``. Empty for the whole file.
    line
        Line number, from 1 on. None if the format does not tell.
    """

    content: Any
    file: str
    key: str = ""
    line: int | None = None

    def error(self, remedy: str) -> SweepError:
        """The error for a wrong value. The remedy says what is allowed."""
        what = f"{self.key} is {described(self._plain())}" if self.key else "it holds no keys"
        return SweepError(f"{self.where}: {what}; {remedy}")

    @property
    def where(self) -> str:
        """File and line."""
        return self.file if self.line is None else f"{self.file}, line {self.line}"

    def _plain(self) -> Any:
        if isinstance(self.content, tuple):
            return list(self.content)
        return self.content

    @property
    def items(self) -> tuple[Value, ...]:
        """The entries of a list. Any other value counts as a list of itself."""
        return self.content if isinstance(self.content, tuple) else (self,)

    def mapping(self, known: Mapping[str, Any], what: str) -> Mapping[str, Value]:
        """The entries of a mapping with known keys.

        Raises
        ------
        SweepError
            If it is no mapping, or has a key that is not known.
        """
        allowed = ", ".join(known)
        if not isinstance(self.content, dict):
            raise self.error(f"give {what} as keys with values; the keys are {allowed}")
        for key, value in self.content.items():
            if key not in known:
                raise SweepError(f"{value.where}: there is no key {described(key)} in {what}; choose from {allowed}")
        return self.content


def read_document(path: str | Path) -> Value:
    """Read a sweep file. Its ending says its format.

    Raises
    ------
    SweepError
        If the file is not of its format, has a key twice, or needs PyYAML, which is missing.
    ProblemError
        If the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() not in KINDS:
        raise SweepError(f"{path} is no sweep file by its ending; name it {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    content = read_bytes(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SweepError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}); save it as such"
        ) from error
    reader: dict[str, Callable[[str, str], Value]] = {".json": _json, ".toml": _toml}
    return reader.get(path.suffix.lower(), _yaml)(text, str(path))


def located(content: Any, file: str, key: str = "") -> Value:
    """Plain values, without lines, as values of a file."""
    if isinstance(content, Mapping):
        inner: Any = {str(own): located(value, file, _below(key, str(own))) for own, value in content.items()}
    elif isinstance(content, (list, tuple)):
        inner = tuple(located(value, file, f"{key}[{i}]") for i, value in enumerate(content))
    else:
        inner = content
    return Value(inner, file, key)


def _below(key: str, own: str) -> str:
    return f"{key}.{own}" if key else own


def _json(text: str, file: str) -> Value:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for number, (key, _) in enumerate(pairs):
            if key in dict(pairs[:number]):
                raise SweepError(f"{file}: the key {key!r} is given twice; keep one")
        return dict(pairs)

    try:
        return located(json.loads(text, object_pairs_hook=once), file)
    except json.JSONDecodeError as error:
        raise SweepError(f"{file}, line {error.lineno}: it is no JSON ({error.msg}); correct it") from error
    except RecursionError as error:
        raise SweepError(f"{file}: its lists are nested too deeply; write plain lists") from error


def _toml(text: str, file: str) -> Value:
    try:
        return located(tomllib.loads(text), file)
    except tomllib.TOMLDecodeError as error:
        raise SweepError(f"{file}: it is no TOML ({error}); correct it") from error
    except RecursionError as error:
        raise SweepError(f"{file}: its lists are nested too deeply; write plain lists") from error


def _yaml(text: str, file: str) -> Value:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        raise SweepError(
            f"{file} needs PyYAML; run: pip install -e '.[sweeps]', or write the sweep as .json or .toml"
        ) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            return Value({}, file)
        return _Nodes(yaml, file).value(root, "", ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}, line {mark.line + 1}"
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SweepError(f"{where}: it is no YAML ({reason}); correct it") from error
    except RecursionError as error:
        raise SweepError(f"{file}: its lists are nested too deeply; write plain lists") from error


class _Nodes:
    """Makes values of YAML's nodes. PyYAML's own constructors would drop the lines, and keys that are given twice."""

    def __init__(self, yaml: Any, file: str) -> None:
        self.yaml, self.file, self.count = yaml, file, 0
        self.scalars = yaml.SafeLoader("")

    def value(self, node: Any, key: str, above: tuple[int, ...]) -> Value:
        line = node.start_mark.line + 1
        self.count += 1
        if id(node) in above or self.count > MOST_VALUES:
            raise SweepError(f"{self.file}, line {line}: an alias stands for itself or for too much; write it out")
        above = (*above, id(node))
        if isinstance(node, self.yaml.MappingNode):
            content: Any = dict(self._entries(node, key, above))
        elif isinstance(node, self.yaml.SequenceNode):
            content = tuple(self.value(own, f"{key}[{i}]", above) for i, own in enumerate(node.value))
        else:
            try:
                content = self.scalars.construct_object(node)
            except (self.yaml.YAMLError, ValueError) as error:
                raise SweepError(f"{self.file}, line {line}: {key} cannot be read; put it in quotes") from error
            if content is not None and not isinstance(content, (bool, int, float, str)):
                content = node.value  # such as a date
        return Value(content, self.file, key, line)

    def _entries(self, node: Any, key: str, above: tuple[int, ...]) -> Iterator[tuple[str, Value]]:
        seen = set()
        for own, value in node.value:
            line = own.start_mark.line + 1
            if not isinstance(own, self.yaml.ScalarNode):
                raise SweepError(f"{self.file}, line {line}: a key must be a word, not a list")
            if own.value in seen:
                raise SweepError(f"{self.file}, line {line}: the key {own.value!r} is given twice; keep one")
            seen.add(own.value)
            yield own.value, self.value(value, _below(key, own.value), above)
