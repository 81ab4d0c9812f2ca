"""Every number that steers a method stands in one table, with its unit and its reason."""

from __future__ import annotations

import importlib
import pkgutil
import re
from numbers import Real
from pathlib import Path

import pytest

import solvers
from solvers.__main__ import main
from solvers.constants import constants

ASSIGNED = re.compile(r"^(_?[A-Z][A-Z0-9_]*)\b[^=\n]*=", re.MULTILINE)


def numbers_of_modules() -> set[tuple[str, str, float]]:
    """Module, name and value of every number in capitals, as import and the text of the source see them."""
    found = set()
    for own in pkgutil.walk_packages(solvers.__path__, "solvers."):
        if own.name.endswith("__main__"):
            continue
        module = importlib.import_module(own.name)
        for name in ASSIGNED.findall(Path(module.__file__ or "").read_text()):
            value = getattr(module, name)
            if isinstance(value, Real) and not isinstance(value, bool):
                found.add((own.name, name, float(value)))
    return found


def test_the_table_has_every_constant_with_its_value() -> None:
    listed = {(own.module, own.name, own.value) for own in constants()}
    assert listed == numbers_of_modules() and len(listed) > 100


def test_every_constant_has_a_unit_and_a_reason() -> None:
    for own in constants():
        assert re.fullmatch(r"[a-z]+", own.unit), f"{own.module}.{own.name} has no unit: write '# unit: reason'"
        assert len(own.reason) > 10, f"{own.module}.{own.name} has no reason"


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--constants"]) == 0
    printed = capsys.readouterr().out
    assert "solvers.roads.spans" in printed and "_LEVEL_SHARE " in printed and "by hand" in printed
    assert all(own.reason in printed for own in constants())
