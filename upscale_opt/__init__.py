"""Optimal channel reordering of pruned networks: trace, mask, solve, export, verify, profile.

The public names below are imported on first use, so that `import upscale_opt` and `solve --instance` load no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upscale_opt.comparing.comparison import Comparison
    from upscale_opt.comparing.masked_model import MaskedModel
    from upscale_opt.comparing.order_checks import OrderCheck, check_orders
    from upscale_opt.comparing.pictures import save_picture
    from upscale_opt.comparing.pruning import compare, prepare, prune
    from upscale_opt.comparing.reports import access_table
    from upscale_opt.errors import MaskError, ModelError, PlanError, UpscaleError, UpscaleWarning, VerificationError
    from upscale_opt.exporting.exporter import export, load
    from upscale_opt.importance import IMPORTANCES, Importance, register_importance
    from upscale_opt.latency.access_profiles import AccessProfile, CopyFound, profile_accesses
    from upscale_opt.latency.calibration import Effort, calibrate
    from upscale_opt.latency.cost_tables import CostTables
    from upscale_opt.latency.measured_costs import MeasuredCosts
    from upscale_opt.latency.profiling import Profile, profile, profile_interleaved
    from upscale_opt.masking.constrained import constrained_masks
    from upscale_opt.masking.importance_masks import importance_masks, importance_scores
    from upscale_opt.masking.input_masks import effective_masks, l2_masks, normalise_masks
    from upscale_opt.masking.masked_graph import MaskedGraph
    from upscale_opt.masking.output_masks import l2_output_masks, normalise_output_masks
    from upscale_opt.masking.rounding import KeptChannels
    from upscale_opt.models.loading import load_model
    from upscale_opt.models.references import ModelReference
    from upscale_opt.models.torch_prune import PruningMasks, masks_from_pruning, permanently_pruned
    from upscale_opt.models.torch_pruning import from_torch_pruning
    from upscale_opt.models.weight_parametrisations import plain_weights
    from upscale_opt.models.wrappers import unwrapped
    from upscale_opt.modules.matrix_convolution import MatrixConv2d
    from upscale_opt.planning.cost_model import AnalyticCosts, CostModel, Workload
    from upscale_opt.planning.extraction import extract
    from upscale_opt.planning.mask_files import read_masks, save_masks
    from upscale_opt.planning.plan_files import read_plan, save_plan
    from upscale_opt.planning.plans import Plan, baseline_plan, plan
    from upscale_opt.planning.reading import Reading
    from upscale_opt.reporting.pages import save_report
    from upscale_opt.rewriting.exports import Exported, Verification
    from upscale_opt.saving.written_forms import save_as
    from upscale_opt.spdy.allocation import allocate
    from upscale_opt.spdy.results import SpeedupAllocation
    from upscale_opt.tracing.graphs import Graph
    from upscale_opt.tracing.skipped import Skipped
    from upscale_opt.tracing.trace import trace
    from upscale_opt.verifying.masked_copies import masked_copy
    from upscale_opt.verifying.verification import verify
    from upscale_opt.widths.results import Speedup
    from upscale_opt.widths.speedup import speedup

__version__ = "0.2.0"

_HOMES = {
    "latency.access_profiles": ("AccessProfile", "CopyFound", "profile_accesses"),
    "latency.calibration": (
        "Effort",
        "calibrate",
    ),
    "latency.cost_tables": ("CostTables",),
    "importance": ("IMPORTANCES", "Importance", "register_importance"),
    "masking.importance_masks": ("importance_masks", "importance_scores"),
    "modules.matrix_convolution": ("MatrixConv2d",),
    "latency.measured_costs": ("MeasuredCosts",),
    "comparing.order_checks": (
        "OrderCheck",
        "check_orders",
    ),
    "comparing.comparison": ("Comparison",),
    "comparing.masked_model": ("MaskedModel",),
    "comparing.pruning": ("compare", "prepare", "prune"),
    "masking.constrained": ("constrained_masks",),
    "planning.cost_model": ("AnalyticCosts", "CostModel", "Workload"),
    "errors": ("MaskError", "ModelError", "PlanError", "UpscaleError", "UpscaleWarning", "VerificationError"),
    "exporting.exporter": ("export", "load"),
    "reporting.pages": ("save_report",),
    "rewriting.exports": ("Exported", "Verification"),
    "planning.extraction": ("extract",),
    "planning.mask_files": ("read_masks", "save_masks"),
    "masking.input_masks": ("effective_masks", "l2_masks", "normalise_masks"),
    "models.loading": ("load_model",),
    "masking.masked_graph": ("MaskedGraph",),
    "masking.output_masks": ("l2_output_masks", "normalise_output_masks"),
    "comparing.pictures": ("save_picture",),
    "models.weight_parametrisations": ("plain_weights",),
    "models.references": ("ModelReference",),
    "planning.plans": ("Plan", "baseline_plan", "plan"),
    "planning.reading": ("Reading",),
    "planning.plan_files": ("read_plan", "save_plan"),
    "latency.profiling": ("Profile", "profile", "profile_interleaved"),
    "tracing.graphs": ("Graph",),
    "comparing.reports": ("access_table",),
    "saving.written_forms": ("save_as",),
    "tracing.skipped": ("Skipped",),
    "spdy.allocation": ("allocate",),
    "spdy.results": ("SpeedupAllocation",),
    "models.torch_prune": ("PruningMasks", "masks_from_pruning", "permanently_pruned"),
    "models.torch_pruning": ("from_torch_pruning",),
    "masking.rounding": ("KeptChannels",),
    "tracing.trace": ("trace",),
    "verifying.masked_copies": ("masked_copy",),
    "verifying.verification": ("verify",),
    "models.wrappers": ("unwrapped",),
    "widths.results": ("Speedup",),
    "widths.speedup": ("speedup",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "IMPORTANCES",
    "AccessProfile",
    "AnalyticCosts",
    "Comparison",
    "CopyFound",
    "CostModel",
    "CostTables",
    "Effort",
    "Exported",
    "Graph",
    "Importance",
    "KeptChannels",
    "MaskError",
    "MaskedGraph",
    "MaskedModel",
    "MatrixConv2d",
    "MeasuredCosts",
    "ModelError",
    "ModelReference",
    "OrderCheck",
    "Plan",
    "PlanError",
    "Profile",
    "PruningMasks",
    "Reading",
    "Skipped",
    "Speedup",
    "SpeedupAllocation",
    "UpscaleError",
    "UpscaleWarning",
    "Verification",
    "VerificationError",
    "Workload",
    "access_table",
    "allocate",
    "baseline_plan",
    "calibrate",
    "check_orders",
    "compare",
    "constrained_masks",
    "effective_masks",
    "export",
    "extract",
    "from_torch_pruning",
    "importance_masks",
    "importance_scores",
    "l2_masks",
    "l2_output_masks",
    "load",
    "load_model",
    "masked_copy",
    "masks_from_pruning",
    "normalise_masks",
    "normalise_output_masks",
    "permanently_pruned",
    "plain_weights",
    "plan",
    "prepare",
    "profile",
    "profile_accesses",
    "profile_interleaved",
    "prune",
    "read_masks",
    "read_plan",
    "register_importance",
    "save_as",
    "save_masks",
    "save_picture",
    "save_plan",
    "save_report",
    "speedup",
    "trace",
    "unwrapped",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])


def _require_own_floors() -> None:
    """The lower floors have generic names: say so if a different `problems` or `solvers` is in the way.

    Under ``python -m upscale_opt`` this is an error of the command line: one sentence, exit code 2.
    """
    home = Path(__file__).resolve().parent.parent
    for name in ("problems", "solvers"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin == home / name / "__init__.py":
            continue
        intruder = origin or (next(iter(spec.submodule_search_locations or []), None) if spec else None)
        message = (
            f"upscale_opt needs its own package '{name}', but {intruder} is in the way; "
            "rename it, or run from another directory"
            if intruder
            else f"upscale_opt needs its own package '{name}', which is missing; install upscale-opt again"
        )
        if "-m" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("-m") + 1 :][:1] == [__name__]:
            print(f"error: {message}", file=sys.stderr)
            raise SystemExit(2)
        raise ImportError(message)


_require_own_floors()
