"""``python -m upscale_opt`` and the console script ``upscale-opt``: the same program."""

import sys
import warnings
from typing import Any

from problems import ProblemError
from solvers import SolverError
from upscale_opt.commands.cli import app
from upscale_opt.errors import UpscaleError, UpscaleWarning, VerificationError


def main() -> None:
    """Run the command line. Exit codes: 0 fine, 1 verification failed, 2 bad input, 130 interrupted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("once", UpscaleWarning)
            warnings.showwarning = _show
            app(prog_name="upscale-opt")
    except (UpscaleError, ProblemError, SolverError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1 if isinstance(error, VerificationError) else 2)


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """A warning on standard error: one line if it is this package's own."""
    own = issubclass(category, UpscaleWarning)
    text = f"warning: {message}\n" if own else warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=file or sys.stderr)


if __name__ == "__main__":
    main()
