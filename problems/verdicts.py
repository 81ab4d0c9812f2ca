"""What the checker says: every statement with its standing, verified, not checkable here, or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """What the checker found out about a statement."""

    VERIFIED = "verified"
    UNCHECKED = "not checkable here"
    WRONG = "WRONG"


@dataclass(frozen=True)
class Statement:
    """One statement, how it stands, and why (may be empty)."""

    text: str
    standing: Standing
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.standing.value}: {self.text}" + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Verdict:
    """What became of every statement; the last one is what the others are for."""

    statements: tuple[Statement, ...]

    @property
    def wrong(self) -> bool:
        """Whether any statement is wrong."""
        return any(statement.standing is Standing.WRONG for statement in self.statements)

    @property
    def verified(self) -> bool:
        """Whether all statements are verified."""
        return all(statement.standing is Standing.VERIFIED for statement in self.statements)

    def __str__(self) -> str:
        return "\n".join(map(str, self.statements))
