"""Every command in the pages exists with its options; those that take minutes at most are run (slow)."""

from __future__ import annotations

import re

import pytest
from documented_commands import PAGES, PARSED_ONLY, ROOT, block_commands, parse, run, span_commands

EXPECTED = {0, 1}
"""Exit codes of a command that did what it says. 1: a measured speedup was not reached, which may happen anywhere."""
MENTIONED = "the following arguments are required"
"""What argparse says of a program that a text mentions without all that it needs."""


def named(page):
    return str(page.relative_to(ROOT))


BENCHMARKS = ROOT / "benchmarks" / "README.md"


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page == BENCHMARKS), id=named(page)) for page in PAGES]
)
def test_commands_exist_with_their_options(page):
    wrong = {own.text: parse(own) for own in block_commands(page)}
    for own in span_commands(page):
        reason = parse(own)
        wrong[own.text] = None if reason and MENTIONED in reason else reason
    assert not {text: reason for text, reason in wrong.items() if reason}


def test_what_is_not_run_says_why():
    for page in PAGES:
        for mark in re.findall(r"<!-- commands: (.*?) -->", page.read_text()):
            assert re.fullmatch(PARSED_ONLY + r", \w.+", mark), f"{named(page)}: {mark}"


TO_RUN = [page for page in PAGES if any(not own.parsed_only for own in block_commands(page))]


@pytest.fixture
def reader(tmp_path):
    """A directory such as a reader has: the README's two files, and the folders that pages name."""
    for name in ("benchmarks", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    for text in re.findall(r"^```python\n(# my_\w+\.py\n.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S):
        (tmp_path / text.split()[1]).write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", TO_RUN, ids=named)
def test_commands_run(page, reader):
    for command in block_commands(page):
        if command.parsed_only:
            continue
        done = run(command, reader)
        assert done.returncode in EXPECTED, f"{command.text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, f"{command.text}\n{done.stderr}"
        if done.returncode:
            assert "NOT reached" in done.stdout, f"{command.text}\n{done.stdout}\n{done.stderr}"
