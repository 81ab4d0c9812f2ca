"""The entries of the index of an instance library, and their form in the file `index.json`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from problems.conversions import whole_number
from problems.errors import ProblemError
from problems.files import reject_unknown_fields, require_field
from problems.objectives import objective_named


@dataclass(frozen=True)
class Entry:
    """The entry of one instance in the index.

    Attributes
    ----------
    name
        The name for `load`.
    family
        How the masks were made, for example ``l2`` or ``classical/random``.
    source
        The origin of the instance: a model's builder, or a call of a generator.
    model, amount, segment
        The network, the share of removed channels, and the module that produces the segment's first block. None for
        instances that do not come from a network.
    seed
        Seed of the weights, of the scores, or of the generator.
    hash
        `problems.signatures.content_hash`.
    blocks, channels, accesses, classes
        Its size; `channels` counts the stored ones.
    tables
        Whether the accesses have cost tables, for the objective `latency`.
    objectives
        The objectives for which it is there; None, and not in the file: all that apply (`Collection.objectives`).
    """

    name: str
    family: str
    source: str
    model: str | None
    amount: str | None
    segment: str | None
    seed: int
    hash: str
    blocks: int
    channels: int
    accesses: int
    classes: int
    tables: bool
    objectives: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.objectives is not None:
            object.__setattr__(self, "objectives", tuple(objective_named(own).name for own in self.objectives))
        parts = self.name.split("/")
        if not all(part not in ("", ".", "..") and "\\" not in part for part in parts):
            raise ProblemError(f"field 'name' is {self.name!r}; it must be a path below the index, like a/b")
        if not re.fullmatch("[0-9a-f]{64}", self.hash):
            raise ProblemError(f"field 'hash' is {self.hash!r}; it must be 64 digits in hexadecimal")
        for field, least in (("seed", 0), ("blocks", 1), ("channels", 1), ("accesses", 0), ("classes", 1)):
            whole_number(getattr(self, field), f"field {field!r}", least=least)


_KINDS: dict[str, Any] = {
    **dict.fromkeys((field.name for field in fields(Entry)), int),
    **dict.fromkeys(("name", "family", "source", "hash"), str),
    **dict.fromkeys(("model", "amount", "segment"), (str, type(None))),
    "tables": bool,
    "objectives": (list, type(None)),
}
_OPTIONAL = {"objectives": None}
"""Fields that an entry may lack."""


def entry_from_dict(raw: Any, where: str) -> Entry:
    """The entry of a JSON object.

    Raises
    ------
    ProblemError
        If a field is missing, unknown or wrong. The message begins with `where`, or names the field in it.
    """
    stated = _OPTIONAL | raw if isinstance(raw, dict) else raw
    values = {name: require_field(stated, name, kind, where) for name, kind in _KINDS.items()}
    reject_unknown_fields(raw, set(_KINDS), where)
    try:
        return Entry(**values)
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def entry_to_dict(entry: Entry) -> dict[str, Any]:
    """The JSON object of an entry, without optional fields that say nothing."""
    return {name: own for name, own in asdict(entry).items() if own is not None or name not in _OPTIONAL}
