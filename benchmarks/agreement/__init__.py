"""Do all solvers agree with each other, and with an independent evaluator? ``python -m benchmarks.agreement``.

The independent formulations are in `tests/oracles`.
"""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[2] / "tests"
if str(_TESTS) not in sys.path:
    sys.path.append(str(_TESTS))
