"""The problems that `solvers` solves: ordering problems of pruned networks, with costs, files and generators.

This package needs NumPy only. It also holds four other problems: `AllocationProblem` chooses a sparsity per layer and
is made from a `TimingTable`; `WidthProblem` chooses a width per block; `WindowProblem` chooses a contiguous window of
channels for every access of a stream; `JointProblem` chooses kept sets and their order together.
"""

from problems.allocation.problem import AllocationProblem, LayerLevels, Totals, UnreachableSpeedupError
from problems.allocation.sparsity_levels import distinct_levels, error_units, rank_errors, sparsity_grid
from problems.allocation.sparsity_profiles import read_sparsity_profile, write_sparsity_profile
from problems.allocation.speedup_targets import allocation_problem
from problems.allocation.timing_tables import LayerTimes, TimingTable, read_timing_table, write_timing_table
from problems.best_known import best_known_of
from problems.blocks import Access, Block, Reader
from problems.building import ProblemBuilder
from problems.bundles import Bundle
from problems.classes import Classes
from problems.constraints import FixedPlace, Precedence
from problems.costs import CostTable, Curve
from problems.errors import ProblemError
from problems.evaluation import AccessCost, Evaluation, evaluate, evaluate_batch
from problems.instances import instance_from_dict, instance_to_dict, read_instance, write_instance
from problems.joint.access import JointAccess
from problems.joint.certificates import JointCertificate, check_joint_certificate
from problems.joint.decision import JointChoice, JointTotals, evaluate_joint
from problems.joint.files import JointSolution, read_joint, read_joint_solution, write_joint, write_joint_solution
from problems.joint.problem import JointProblem
from problems.joint.proofs import JointClaim, JointProof
from problems.matrices import matrix_of, read_matrix, read_problem, write_matrix
from problems.named_orders import order_by_names, places_of
from problems.objectives import OBJECTIVES, Objective, in_units, objective_named
from problems.obstructions import Obstruction
from problems.order import Order
from problems.problem import Problem
from problems.proof_files import read_proof, write_proof
from problems.proofs import Claim, Kind, Potentials, Proof
from problems.tsplib import order_of_tour, read_tour, write_tsplib
from problems.widths.certificate_files import read_certificate, write_certificate
from problems.widths.certificates import BoundCertificate, check_certificate
from problems.widths.problem import WidthProblem
from problems.widths.tables import TimedWork, TimeTable, WidthBlock
from problems.widths.width_files import read_width_problem, write_width_problem
from problems.windows.decision import Windows, WindowTotals, evaluate_windows
from problems.windows.files import read_windows, write_windows
from problems.windows.losses import ChannelLosses
from problems.windows.ordering import ordering_problem
from problems.windows.problem import StreamAccess, WindowProblem

__all__ = [
    "OBJECTIVES",
    "Access",
    "AccessCost",
    "AllocationProblem",
    "Block",
    "BoundCertificate",
    "Bundle",
    "ChannelLosses",
    "Claim",
    "Classes",
    "CostTable",
    "Curve",
    "Evaluation",
    "FixedPlace",
    "JointAccess",
    "JointCertificate",
    "JointChoice",
    "JointClaim",
    "JointProblem",
    "JointProof",
    "JointSolution",
    "JointTotals",
    "Kind",
    "LayerLevels",
    "LayerTimes",
    "Objective",
    "Obstruction",
    "Order",
    "Potentials",
    "Precedence",
    "Problem",
    "ProblemBuilder",
    "ProblemError",
    "Proof",
    "Reader",
    "StreamAccess",
    "TimeTable",
    "TimedWork",
    "TimingTable",
    "Totals",
    "UnreachableSpeedupError",
    "WidthBlock",
    "WidthProblem",
    "WindowProblem",
    "WindowTotals",
    "Windows",
    "allocation_problem",
    "best_known_of",
    "check_certificate",
    "check_joint_certificate",
    "distinct_levels",
    "error_units",
    "evaluate",
    "evaluate_batch",
    "evaluate_joint",
    "evaluate_windows",
    "in_units",
    "instance_from_dict",
    "instance_to_dict",
    "matrix_of",
    "objective_named",
    "order_by_names",
    "order_of_tour",
    "ordering_problem",
    "places_of",
    "rank_errors",
    "read_certificate",
    "read_instance",
    "read_joint",
    "read_joint_solution",
    "read_matrix",
    "read_problem",
    "read_proof",
    "read_sparsity_profile",
    "read_timing_table",
    "read_tour",
    "read_width_problem",
    "read_windows",
    "sparsity_grid",
    "write_certificate",
    "write_instance",
    "write_joint",
    "write_joint_solution",
    "write_matrix",
    "write_proof",
    "write_sparsity_profile",
    "write_timing_table",
    "write_tsplib",
    "write_width_problem",
    "write_windows",
]
