"""The command line in tests: in this process, which costs nothing, or in one of its own, where that is the point."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from upscale_opt.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
NETS = ROOT / "tests" / "upscale_opt" / "networks.py"
SHAPE = ("--input-shape", "1,3,8,8")
RESIDUAL = ("--model", f"{NETS}:Residual", *SHAPE)


def words(text):
    """A text without line breaks, which depend on the screen."""
    return " ".join(text.split())


def upscale_opt(*arguments):
    """One command in this process, with its exit code, its standard output and its standard error."""
    command, out, err = ["upscale-opt", *map(str, arguments)], io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", command), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


def upscale_opt_process(*arguments, cwd=ROOT):
    """One command in a process of its own, as users start it."""
    command = [sys.executable, "-m", "upscale_opt", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
