"""The command of the checker: ``python -m problems.checking INSTANCE``. The checker itself is in `problems.checker`."""

import sys

from problems.checker.checking import main

if __name__ == "__main__":
    sys.exit(main())
