"""``python -m upscale_opt`` and the console script ``upscale-opt``: the same program."""

import sys

from problems import ProblemError
from solvers import SolverError
from upscale_opt.commands.cli import app
from upscale_opt.errors import UpscaleError, VerificationError


def main() -> None:
    """Run the command line. Exit codes: 0 fine, 1 verification failed, 2 bad input, 130 interrupted."""
    try:
        app(prog_name="upscale-opt")
    except (UpscaleError, ProblemError, SolverError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1 if isinstance(error, VerificationError) else 2)


if __name__ == "__main__":
    main()
