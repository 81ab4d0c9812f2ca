"""Do all solvers agree with each other and with an evaluator of their own: ``python -m benchmarks.agreement``.

Independent formulations come from `oracles`, which lies beside the tests.
"""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[2] / "tests"
if str(_TESTS) not in sys.path:
    sys.path.append(str(_TESTS))
