"""What is to be solved: ordering problems of pruned networks, their costs, files and generators (NumPy only)."""

from problems.costs import CostTable, Curve
from problems.errors import ProblemError
from problems.evaluation import (
    OBJECTIVES,
    AccessCost,
    Evaluation,
    Objective,
    evaluate,
    evaluate_batch,
    in_units,
    objective_named,
)
from problems.instances import instance_from_dict, instance_to_dict, read_instance, write_instance
from problems.order import Order
from problems.problem import Access, Block, Classes, Problem, Reader
from problems.proof_files import read_proof, write_proof
from problems.proofs import Claim, Kind, Potentials, Proof

__all__ = [
    "OBJECTIVES",
    "Access",
    "AccessCost",
    "Block",
    "Claim",
    "Classes",
    "CostTable",
    "Curve",
    "Evaluation",
    "Kind",
    "Objective",
    "Order",
    "Potentials",
    "Problem",
    "ProblemError",
    "Proof",
    "Reader",
    "evaluate",
    "evaluate_batch",
    "in_units",
    "instance_from_dict",
    "instance_to_dict",
    "objective_named",
    "read_instance",
    "read_proof",
    "write_instance",
    "write_proof",
]
