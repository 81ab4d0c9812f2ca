"""``python -m upscale_opt`` and the console script ``upscale-opt``: the same program."""

import io
import sys
import warnings
from typing import Any, NoReturn

import typer

from problems import ProblemError
from solvers import SolverError
from upscale_opt.commands.cli import app
from upscale_opt.errors import UpscaleError, UpscaleWarning, VerificationError
from upscale_opt.screens.lines import noted

UsageError = typer.BadParameter.__base__
"""What typer raises about a command line; it has its own copy of the class or that of click, as its version goes."""


def main() -> None:
    """Run the command line. Exit codes: 0 fine, 1 verification failed, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold what a terminal cannot show
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", UpscaleWarning)
            warnings.showwarning = _show
            # Without arguments: the help.
            sys.exit(app(prog_name="upscale-opt", standalone_mode=len(sys.argv) < 2) or 0)
    except (UpscaleError, ProblemError, SolverError) as error:
        _fail(str(error), 1 if isinstance(error, VerificationError) else 2)
    except UsageError as error:  # type: ignore[misc]
        _fail(error.format_message(), 2)


def _fail(message: str, code: int) -> NoReturn:
    """One sentence on standard error."""
    print(noted(f"error: {' '.join(message.split())}"), file=sys.stderr)
    sys.exit(code)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """A warning on standard error: one line if it is this package's own."""
    own = issubclass(category, UpscaleWarning)
    text = (
        noted(f"warning: {message}") + "\n"
        if own
        else warnings.formatwarning(message, category, filename, lineno, line)
    )
    print(text, end="", file=file or sys.stderr)


if __name__ == "__main__":
    main()
