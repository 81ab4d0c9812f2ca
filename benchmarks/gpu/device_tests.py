"""The tests that need a GPU, in a separate process."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from benchmarks.gpu.schedule import Deadline
from benchmarks.gpu.settings import Setting

ROOT = Path(__file__).parents[2]
MARK = "pytest.mark.cuda"
PROCESSES = 4
"""Compiling kernels takes most of the time, on the CPU."""


def marked_files() -> list[Path]:
    """The test files with such tests. Other test files may need packages that the GPU machine does not have."""
    return sorted(path for path in (ROOT / "tests").rglob("test_*.py") if MARK in path.read_text())


def run_tests(setting: Setting, deadline: Deadline) -> str:
    """Run the tests and write pytest's output to ``tests.txt``. Returns a line with the numbers.

    Raises
    ------
    RuntimeError
        If a test fails.
    """
    files = [str(path.relative_to(ROOT)) for path in marked_files()]
    more = ["--collect-only"] if setting.device == "cpu" else []
    if not more and importlib.util.find_spec("xdist") is not None:
        more = ["-n", str(PROCESSES)]
    options = ["-q", "-rA", "--durations=10", "-p", "no:cacheprovider", "-m", "cuda", *more]
    command = [sys.executable, "-u", "-m", "pytest", *options, *files]
    out = setting.out / "tests.txt"
    with tempfile.TemporaryFile("w+") as file:
        # A dry run has a fake clock; waiting for a process needs the real one.
        seconds = max(1.0, deadline.left) if setting.device != "cpu" else None
        code = exit_code(command, file, seconds)
        file.seek(0)
        text = file.read()
    setting.out.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "nothing was printed")
    if code is None:
        raise RuntimeError(f"the tests did not end in time; {out.name} has what was printed until then")
    if code:
        raise RuntimeError(f"pytest ends with exit code {code}: {last}")
    return last.strip("= ")


def exit_code(command: Sequence[str], output: IO[str], seconds: float | None) -> int | None:
    """Run a command in the root. None if it is not done in time; then it is ended with all its child processes."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
