"""Shared instances, importable as `proof_instances` under pytest's importlib mode."""

import sys
from pathlib import Path

if str(Path(__file__).parent) not in sys.path:
    sys.path.append(str(Path(__file__).parent))
