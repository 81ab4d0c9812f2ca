"""Every number that steers the methods, as a table: value, unit, module, and the reason or the measurement behind it.

The table is read from the modules' own sources. A constant is a number bound to a name in capitals at the top of a
module. What it is for stands behind it in a comment, or below it in a docstring: ``unit: reason``.
"""

from __future__ import annotations

import ast
import importlib
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

_NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Constant:
    """One number.

    Attributes
    ----------
    name, value
        As in the module.
    unit
        What it counts or measures; empty if the source does not say.
    module
        Where it stands.
    reason
        What it is for, and where the number comes from; empty if the source does not say.
    """

    name: str
    value: float
    unit: str
    module: str
    reason: str


def constants() -> list[Constant]:
    """The constants of all modules of this package, module by module.

    Examples
    --------
    >>> [own.unit for own in constants() if own.name == "_FEW_ROWS"]
    ['rows']
    """
    root = Path(__file__).parent
    return [own for path in sorted(root.rglob("*.py")) for own in _of_module(path, root)]


def table(rows: Iterable[Constant]) -> list[str]:
    """Constants as lines of text, one each, with a heading for every module.

    Examples
    --------
    >>> print(*table([Constant("_MOST", 3, "rows", "solvers.x", "why")]), sep="|")
    solvers.x|  _MOST                             3 rows            why
    """
    lines: list[str] = []
    module = None
    for own in rows:
        if own.module != module:
            module = own.module
            lines.append(module)
        lines.append(f"  {own.name:24} {own.value:>10g} {own.unit:15} {own.reason}")
    return lines


def _of_module(path: Path, root: Path) -> Iterator[Constant]:
    """The constants of one source file."""
    source = path.read_text(encoding="utf-8")
    name = ".".join([root.name, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
    comments = _comments(path)
    body = ast.parse(source).body
    for statement, after in zip(body, [*body[1:], None]):
        targets = _targets(statement)
        if not targets or name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        said = comments.get(statement.end_lineno or statement.lineno, "") or _docstring(after)
        unit, _, reason = said.partition(": ")
        for target in targets:
            value = getattr(module, target)
            if isinstance(value, Real) and not isinstance(value, bool):
                yield Constant(target, float(value), unit if reason else "", name, reason)


def _targets(statement: ast.stmt) -> list[str]:
    """The names in capitals that a statement binds."""
    found = statement.targets if isinstance(statement, ast.Assign) else []
    found = [statement.target] if isinstance(statement, ast.AnnAssign) else found
    return [own.id for own in found if isinstance(own, ast.Name) and _NAME.fullmatch(own.id)]


def _comments(path: Path) -> dict[int, str]:
    """Comments by the number of their line."""
    with tokenize.open(path) as lines:
        found = [token for token in tokenize.generate_tokens(lines.readline) if token.type == tokenize.COMMENT]
    return {token.start[0]: token.string.lstrip("# ") for token in found}


def _docstring(statement: ast.stmt | None) -> str:
    """The text of a statement that is nothing but one."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return " ".join(str(statement.value.value).split())
    return ""
