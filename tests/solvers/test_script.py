"""Proves that the script of docs/solving.md runs without torch, and has at most 20 lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_matrix_in_order_with_proof_out_stopped_continued_from_a_file_and_drawn(tmp_path: Path) -> None:
    script = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "solving.md").read_text(), re.M | re.S)[0]
    assert len(script.splitlines()) <= 20 and '"torch" not in sys.modules' in script
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.count("gap limit") == 2 and "WRONG" not in done.stdout
    assert done.stdout.count("every order has span >=") == 4
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "auto.png", "cp-sat.png"}
