"""Random networks: `random_network(seed)` makes one of everything, `check` compares its exports with the masked model."""

from benchmarks.random_networks.checks import Outcome, Verdict, check
from benchmarks.random_networks.networks import OPERATORS, random_network
from benchmarks.random_networks.program import Program

__all__ = ["OPERATORS", "Outcome", "Program", "Verdict", "check", "random_network"]
