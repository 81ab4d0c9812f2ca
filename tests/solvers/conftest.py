"""Shared instances, importable as `solver_instances` under pytest's importlib mode."""

import sys
from pathlib import Path

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))

from oracles import register_witnesses

register_witnesses()
