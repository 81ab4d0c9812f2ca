"""The tutorials run from their first cell to their last, without Jupyter; they are committed without outputs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
NEEDED = {"own_network": "sklearn", "own_masks": "torch_pruning"}


def cells_of(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text_of(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs_and_begin_with_their_title(path):
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells_of(path))
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown" and text_of(first).startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    if (needed := NEEDED.get(path.stem)) and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    code = "\n\n".join(text_of(cell) for cell in cells_of(path))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "UPSCALE_OPT_CACHE": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path),
        "MPLBACKEND": "agg",
    }
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
