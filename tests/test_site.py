"""The front door: the README's length and words, the citation, the picture's figures, and the site (slow)."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import picture
from benchmarks.results import DIRECTORY, csv_text
from upscale_opt import __version__

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_readme_is_short_and_needs_no_words_that_it_does_not_explain():
    assert len(README.splitlines()) <= 120
    assert not re.search(r"\b(consumer|segment|view|floor|producer)s?\b", README, flags=re.IGNORECASE)


def test_the_set_up_commands_come_first():
    first, second, *_ = re.findall(r"^```bash\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert first.count("\n") == second.count("\n") == 1
    assert first.endswith("-m upscale_opt solve --model resnet50\n") and "pytest" in second


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert citation and citation[1] == project["version"] == __version__
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_the_picture_shows_measured_figures():
    rows = [*picture.cpu_rows(), *picture.gpu_rows()]
    written = (DIRECTORY / picture.FIGURES).read_text()
    assert written == csv_text(rows, picture.COLUMNS), "run: python -m benchmarks.picture"
    bars = {(row["panel"], row["network"]) for row in rows}
    assert len(rows) == len(bars) * len(picture.VARIANTS) == 35
    drawn = picture.PICTURE.read_text()
    assert all(f">{row['ms']:.3g}<" in drawn for row in rows), "run: python -m benchmarks.picture"


def test_the_drawings_of_the_glossary_show_its_example():
    module = runpy.run_path(str(ROOT / "docs" / "building" / "drawings.py"))
    for name, draw in module["DRAWINGS"].items():
        assert (module["DIRECTORY"] / f"{name}.svg").read_text() == draw(), "run: python docs/building/drawings.py"


@pytest.mark.slow
def test_the_site_builds_strictly_with_the_outputs_of_its_notebooks(tmp_path):
    for name in ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter", "torch_pruning", "sklearn"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install -e '.[docs]'")
    environment = {**os.environ, "UPSCALE_OPT_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {
        name: (tmp_path / "site" / name / "index.html").read_text() for name in ("", "api/upscale_opt", "benchmarks")
    }
    assert "picture.svg" in pages[""] and 'id="upscale_opt.speedup"' in pages["api/upscale_opt"]
    assert 'href="results/latency/' in pages["benchmarks"]
    tutorial = (tmp_path / "site" / "tutorials" / "own_network" / "index.html").read_text()
    assert "parameters" in tutorial and "of the test images are right" in tutorial and "Traceback" not in tutorial
