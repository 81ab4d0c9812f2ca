"""Random networks: `random_network(seed)` makes one, `check` compares its exports with the masked model.

The command: ``python -m benchmarks.random_networks --seeds 0:20000``.
"""

from benchmarks.random_networks.checks import Outcome, Verdict, check
from benchmarks.random_networks.networks import OPERATORS, random_network
from benchmarks.random_networks.program import Program

__all__ = ["OPERATORS", "Outcome", "Program", "Verdict", "check", "random_network"]
