"""Argument checks of all public functions. They run before any work starts.

`entrance` decorates every public function. It chooses the check of an argument by the argument's name (`CHECKS`),
because a name means the same in all functions. A function with another meaning passes its own check to `entrance`.
A check returns the value to use, or raises an error. The message is one sentence that names the argument and says what
to give. `upscale_opt.models.network_checks` checks networks, their inputs, masks and state_dicts. This module does not
import torch.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from problems import Objective, Order, Problem, objective_named
from problems.showing.progress import ProgressBar
from upscale_opt.arguments.checks import (
    Check,
    a_flag,
    a_path,
    a_text,
    above,
    an,
    an_amount,
    callable_with,
    channel_numbers,
    either,
    named,
    named_values,
    names,
    refused,
    several,
    whole,
)
from upscale_opt.arguments.modes import AUTO, NEAREST, front_end
from upscale_opt.errors import LearningError, MaskError, ModelError, PlanError, UpscaleError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def entrance(**checks: Check) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Return a decorator that checks the arguments of a public function before the function runs.

    ``None`` is accepted if it is the default of the argument. A missing or unknown argument raises Python's own
    TypeError. While the function works, a `problems.showing.progress.ProgressBar` has its name, and the setting of its
    argument ``progress`` if it has one.

    Parameters
    ----------
    checks
        Checks by argument name, for arguments whose entry in `CHECKS` does not apply.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        signature = inspect.signature(function)
        chosen = {name: checks.get(name) or CHECKS[name] for name in signature.parameters if name not in _OWN}
        what = function.__name__.strip("_").replace("_", " ")
        may_lack = {name for name in chosen if signature.parameters[name].default is None}

        @functools.wraps(function)
        def entered(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # raises a TypeError that names the missing argument
            for name, value in given.arguments.items():
                if name in chosen and not (value is None and name in may_lack):
                    given.arguments[name] = chosen[name](value, name)
            with ProgressBar(what, progress=given.arguments.get("progress")):
                return function(*given.args, **given.kwargs)

        entered.__dict__["checks"] = chosen
        return entered

    return decorate


def arrays_by_name(value: Any, name: str) -> Mapping[str, np.ndarray]:
    """Require masks by the names of weights, and return Boolean arrays. The check needs no network."""
    return _arrays(value if isinstance(value, Mapping) else MASKS(value, name), name)


def output_arrays_by_name(value: Any, name: str) -> Mapping[str, np.ndarray]:
    """As `arrays_by_name`, for masks of outputs."""
    return _arrays(value if isinstance(value, Mapping) else OUTPUTS(value, name), name)


def _arrays(found: Any, name: str) -> Mapping[str, np.ndarray]:
    from upscale_opt.arguments.mask_arrays import boolean_arrays

    return boolean_arrays(named("its Boolean mask", "weight", MaskError)(found, name), "the mask")


def problems_by_segment(value: Any, name: str) -> Any:
    """Require the result of `upscale_opt.extract`."""
    return _all_of(value, name, Problem, "the problems that upscale_opt.extract returns, by segment", PlanError)


def orders_by_title(value: Any, name: str) -> Any:
    """Require a non-empty mapping from titles to orders of one problem."""
    remedy = "at least one problems.Order by its title"
    if isinstance(value, Mapping) and not value:
        raise refused(value, name, remedy)
    return _all_of(value, name, Order, remedy)


def results_by_segment(value: Any, name: str) -> Any:
    """Require a mapping from segments to results of `solvers.solve`."""
    from solvers import Result as Solved

    return _all_of(value, name, Solved, "the result of solvers.solve for every segment", PlanError)


def _all_of(value: Any, name: str, kind: type, remedy: str, error: type[UpscaleError] = UpscaleError) -> Any:
    """Require a mapping whose values are all instances of `kind`."""
    if not isinstance(value, Mapping):
        raise refused(value, name, remedy, error)
    for key, own in value.items():
        if not isinstance(own, kind):
            raise refused(own, f"{name}[{key!r}]", remedy, error)
    return value


def an_objective(value: Any, name: str) -> Any:
    """Require an objective, or the name of an objective."""
    if not isinstance(value, (str, Objective)):
        raise refused(value, name, "the name of an objective, such as 'copies', or a problems.Objective")
    objective_named(value)
    return value


def a_way_to_show(value: Any, name: str) -> Any:
    """Require True, False, or a function of a `problems.showing.progress.Stage`."""
    if callable(value) and not isinstance(value, type) and not hasattr(value, "named_modules"):
        return value
    if not isinstance(value, (bool, np.bool_)):
        raise refused(value, name, "True, False, None, or a function of a problems.showing.progress.Stage")
    return bool(value)


def cost_tables(value: Any, name: str) -> Any:
    """Require a `upscale_opt.CostModel`."""
    if not callable(getattr(value, "table", None)) or not isinstance(getattr(value, "name", None), str):
        raise refused(value, name, "a cost model, such as upscale_opt.AnalyticCosts()")
    return value


def batches(value: Any, name: str) -> Any:
    """Require an iterable of batches. Each batch is checked later, when it is used."""
    listed = hasattr(value, "__iter__") and not isinstance(value, (str, bytes, Mapping)) and not callable(value)
    if not listed and not hasattr(value, "batches"):
        raise refused(value, name, "batches of inputs, with labels behind them", MaskError)
    return value


def a_multiple(value: Any, name: str) -> int:
    """Require a multiple of channels. Whoever gives ``auto`` is told which function measures."""
    if isinstance(value, str) and value in (AUTO, NEAREST):
        remedy = f"a whole number of at least 1; prune(...).round({value!r}) measures how many channels to keep"
        raise refused(value, name, remedy, MaskError)
    return int(whole(1, MaskError)(value, name))


def _networks(check: str) -> Check:
    """Return a check that calls a function of `upscale_opt.models.network_checks`, a module that imports torch."""

    def delegated(value: Any, name: str) -> Any:
        return getattr(importlib.import_module("upscale_opt.models.network_checks"), check)(value, name)

    return delegated


A_MODEL, RUNNABLE, RUNNABLES = _networks("a_model"), _networks("runnable"), _networks("runnables")
MASKS, SETTLED_MASKS, OUTPUTS = _networks("masks"), _networks("settled_masks"), _networks("output_masks")
MASKS_OF_BOTH_SIDES = _networks("masks_of_both_sides")
EXPORTED = an("upscale_opt.rewriting.exports", "Exported", "what upscale_opt.export returns")
MASKED_GRAPH = an(
    "upscale_opt.masking.masked_graph", "MaskedGraph", "what upscale_opt.prune or effective_masks returns"
)
MASKED = an("upscale_opt.comparing.masked_model", "MaskedModel", "what upscale_opt.prune returns")
PLAN = an(
    "upscale_opt.planning.plans", "Plan", "a plan (upscale_opt.plan, or upscale_opt.read_plan of a file)", PlanError
)
REFERENCE = an(
    "upscale_opt.models.references",
    "ModelReference",
    "a upscale_opt.ModelReference, such as ModelReference('resnet18')",
    ModelError,
)
DATASET = an(
    "upscale_opt.learning.image_sets", "Dataset", "a dataset (upscale_opt.learning.datasets.load_data)", LearningError
)
RECIPE = an("upscale_opt.learning.recipes", "Recipe", "a upscale_opt.learning.recipes.Recipe", LearningError)
DISTILLATION = an(
    "upscale_opt.learning.distillation",
    "Distillation",
    "a upscale_opt.learning.distillation.Distillation",
    LearningError,
)
EFFORT = an("upscale_opt.latency.calibration", "Effort", "a upscale_opt.Effort")
PROFILE = an("upscale_opt.latency.access_profiles", "AccessProfile", "what upscale_opt.profile_accesses returns")

LEARNER = _networks("learner")
VERIFIER = an(
    "upscale_opt.verifying.verification", "Verifier", "True, False or a upscale_opt.verifying.verification.Verifier"
)
AN_IMPORTANCE = an("upscale_opt.importance.registry", "Importance", "a upscale_opt.Importance", MaskError)
IMPORTANCE = either(
    a_text,
    an(
        "upscale_opt.importance.registry",
        "Importance",
        "the name of an importance, such as 'l2', or a upscale_opt.Importance",
        MaskError,
    ),
)
ORDERS = orders_by_title

_OWN = ("self", "cls")
CHECKS: dict[str, Check] = {
    **dict.fromkeys(("measure", "baseline", "verify", "linear", "reestimate", "dynamic_batch", "nearest"), a_flag),
    "progress": a_way_to_show,
    **dict.fromkeys(("pruned", "gradients"), a_flag),
    **dict.fromkeys(("seed", "rounds"), whole(0)),
    **dict.fromkeys(("repeats", "copies"), whole(1, ModelError)),
    "round_to": a_multiple,
    "front_end": front_end,
    "min_channels": whole(1, MaskError),
    **dict.fromkeys(("time_limit", "speedup"), above(0)),
    **dict.fromkeys(("form", "backend", "scope", "mode", "solver"), a_text),
    **dict.fromkeys(("path", "directory", "tables", "checkpoint"), a_path),
    "amount": an_amount,
    "amounts": named_values(an_amount, "its amount", "weight or module", MaskError),
    "ignore": names,
    "objective": an_objective,
    "costs": cost_tables,
    "problem": an("problems", "Problem", "a problems.Problem"),
    "problems": problems_by_segment,
    "results": results_by_segment,
    "solvers": several(a_text, "the names of solvers, such as ['greedy', 'auto']"),
    "data": batches,
    "held_out": batches,
    "loss": callable_with("outputs and labels", MaskError),
    "plan": PLAN,
    "reference": REFERENCE,
    "exported": EXPORTED,
    "masked": MASKED,
    "effort": EFFORT,
    "profiles": several(PROFILE, "what upscale_opt.profile_accesses returns"),
    "model": A_MODEL,
    "models": RUNNABLES,
    "beside": RUNNABLES,
    "example_inputs": _networks("inputs"),
    "graph": an(
        "upscale_opt.tracing.graphs", "Graph", "what upscale_opt.trace(model, example_inputs) returns", ModelError
    ),
    "state_dict": _networks("state_dict"),
    "masks": MASKS,
    "output_masks": OUTPUTS,
    "padding": named_values(channel_numbers, "the channels that pad it", "block", PlanError),
    "axes": named_values(whole(0, MaskError), "the dimension of its input channels", "weight", MaskError),
    "kernels": named_values(a_text, "a kernel", "consumer", PlanError),
    "recipe": RECIPE,
    "recipes": several(RECIPE, "at least one upscale_opt.learning.recipes.Recipe", LearningError),
    "finetuning": RECIPE,
    "distillation": DISTILLATION,
    "target": an("upscale_opt.learning.targets", "Target", "a upscale_opt.learning.targets.Target", LearningError),
    "method": an("upscale_opt.learning.loop", "Method", "a upscale_opt.learning.loop.Method", LearningError),
    "table": an("problems", "TimingTable", "a problems.TimingTable"),
    "repair": an("upscale_opt.spdy.reconstructions", "Repair", "a upscale_opt.spdy.reconstructions.Repair"),
    "search": an("upscale_opt.spdy.choices", "CoefficientSearch", "a upscale_opt.spdy.choices.CoefficientSearch"),
    "tuning": an("upscale_opt.spdy.global_adaprune", "Tuning", "a upscale_opt.spdy.global_adaprune.Tuning"),
    "how": an("upscale_opt.spdy.outer_rounds", "Exporting", "a upscale_opt.spdy.outer_rounds.Exporting"),
}
"""The check of each argument name, for all public functions."""
