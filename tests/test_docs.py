"""Tests of the pages in docs/: their examples run, and their links lead somewhere."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]


def headings_of(page):
    """The anchors of a page, as GitHub makes them from its headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", ["glossary.md", "methods.md"])
def test_the_examples_of_pages_hold(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(ROOT / "docs" / page), module_relative=False)
    assert tried and not failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in headings_of(path)):
            lost.append(target)
    assert not lost


def test_the_model_page_names_methods_that_are_there():
    """The table of constraints: every file has every method, with a docstring that says the constraint."""
    rows = re.findall(
        r"^\| [^|]+ \| `((?:problems|solvers)/\S+\.py)` \| (.+) \|$", (ROOT / "docs" / "model.md").read_text(), re.M
    )
    assert len(rows) > 15
    for file, methods in rows:
        code = (ROOT / file).read_text()
        for method in re.findall(r"`(\w+)`", methods):
            assert re.search(rf"def {method}\(", code), f"{file} has no {method}"


@pytest.mark.slow
def test_the_page_on_the_library_runs(tmp_path):
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "library.md").read_text(), re.M | re.S))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
