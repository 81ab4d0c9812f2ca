"""Tests of the entrance: whatever is given to a public function, it answers with an error of its own, or does it."""

import inspect
import warnings
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import upscale_opt
from problems import Order, ProblemError
from solvers import SolverError, solve
from upscale_opt import UpscaleError
from upscale_opt.arguments.entrance import CHECKS
from upscale_opt.importance.fisher import block_losses, fisher_scores
from upscale_opt.importance.streams import stream_scores
from upscale_opt.learning.bip import Bip, bip
from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.distillation import Distillation
from upscale_opt.learning.evaluation import accuracy
from upscale_opt.learning.fidelity import compare_outputs
from upscale_opt.learning.finetuning import finetune
from upscale_opt.learning.gap import Gap, cgap, pgap
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.spdy.calibration_data import calibration_data

OWN = (UpscaleError, ProblemError, SolverError)
"""The errors of the three floors."""
LEARNING = {function.__name__: function for function in (accuracy, bip, cgap, compare_outputs, finetune, fit, pgap)}
SCORING = {function.__name__: function for function in (block_losses, fisher_scores, stream_scores)}


EXAMPLES = {
    type(own).__name__: own
    for own in (
        upscale_opt.ModelReference("resnet18"),
        upscale_opt.AnalyticCosts(),
        upscale_opt.Workload(1, 1, 1, 1, 4),
        upscale_opt.Effort(),
        upscale_opt.IMPORTANCES["taylor"],
        Recipe(),
        Target(),
        Bip(),
        Gap(),
        Distillation(nn.Linear(1, 1)),
    )
}
"""What people make themselves."""


ITEM = SimpleNamespace(dep=SimpleNamespace(target=SimpleNamespace(module=nn.ReLU()), handler=len), idxs=[0])
"""A part of a group of Torch-Pruning: an operator, which has no channels of its own."""


class Small(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x))).mean((2, 3))


class Things:
    """One of everything that public functions take, made once."""

    def __init__(self, folder):
        self.model, self.x = Small().eval(), torch.zeros(1, 3, 4, 4)
        self.before = [own.detach().clone() for own in self.model.parameters()]
        self.graph = upscale_opt.trace(self.model, self.x)
        self.masks = upscale_opt.effective_masks(self.graph, {"b": [0, 2]}).masks
        self.problems = upscale_opt.extract(self.graph, self.masks)
        self.results = {name: solve(problem, solver="greedy") for name, problem in self.problems.items()}
        self.plan = upscale_opt.plan(self.problems, self.masks, self.results)
        self.exported = upscale_opt.export(self.model, self.x, self.plan)
        self.masked = upscale_opt.prepare(self.model, self.x, self.masks)
        self.problem = next(iter(self.problems.values()))
        images = [(torch.zeros(3, 4, 4), 0), (torch.ones(3, 4, 4), 1)]
        self.data = Dataset("four", images, images, 4, (3, 4, 4))
        self.folder = folder
        upscale_opt.save_plan(self.plan, folder / "plan.json")
        upscale_opt.save_masks(self.masks, folder / "masks.json")


def valid_calls(own):
    """Every public function to arguments that it takes."""
    traced = {"model": own.model, "example_inputs": own.x}
    masked = {"graph": own.graph, "masks": own.masks}
    labelled = [(own.x, torch.zeros(1, dtype=torch.int64))]
    learning = {"model": own.model, "data": own.data, "recipe": Recipe(epochs=1, batch_size=2)}
    return {
        "access_table": {"profiles": list(upscale_opt.profile_accesses(own.exported, own.x, repeats=1))},
        "allocate": {**traced, "data": labelled, "speedup": 1.1},
        "speedup": {**traced, "data": labelled * 2, "target": 1.1},
        "baseline_plan": {"problems": own.problems, "masks": own.masks},
        "calibrate": {"masked": own.masked, "example_inputs": (own.x,), "directory": own.folder},
        "check_orders": {"masked": own.masked},
        "compare": {**traced, "masks": own.masks, "measure": False, "solvers": ["greedy"]},
        "constrained_masks": {"graph": own.graph},
        "effective_masks": masked,
        "export": {**traced, "plan": own.plan},
        "extract": masked,
        "from_torch_pruning": {"model": own.model, "pruned": [(ITEM,)]},
        "importance_masks": {"graph": own.graph},
        "importance_scores": {"graph": own.graph},
        "l2_masks": {"graph": own.graph},
        "l2_output_masks": {"graph": own.graph},
        "load": {"plan": own.plan, "model": own.model, "state_dict": own.model.state_dict(), "example_inputs": own.x},
        "load_model": {"reference": upscale_opt.ModelReference("squeezenet1_1")},
        "masked_copy": {"model": own.model, "masks": own.masks},
        "masks_from_pruning": {"model": own.model},
        "normalise_masks": masked,
        "normalise_output_masks": {"graph": own.graph, "masks": {"a": [0, 1]}},
        "permanently_pruned": {"model": own.model},
        "plain_weights": {"model": own.model},
        "plan": {"problems": own.problems, "masks": own.masks, "results": own.results},
        "prepare": {**traced, "masks": own.masks},
        "prune": {**traced},
        "profile": {**traced, "repeats": 2},
        "profile_accesses": {"exported": own.exported, "example_inputs": own.x, "repeats": 1},
        "profile_interleaved": {"models": {"a": own.model}, "example_inputs": own.x, "repeats": 2},
        "read_masks": {"path": own.folder / "masks.json"},
        "read_plan": {"path": own.folder / "plan.json"},
        "register_importance": {"importance": upscale_opt.IMPORTANCES["l2"]},
        "save_as": {"exported": own.exported, "path": own.folder / "a.ts", "form": "torchscript"},
        "save_masks": {"masks": own.masks, "path": own.folder / "b.json"},
        "save_picture": {
            "problem": own.problem,
            "orders": {"original": Order.identity(own.problem)},
            "path": own.folder / "a.png",
        },
        "save_report": {"found": own.results, "problems": own.problems, "path": own.folder / "a.html"},
        "save_plan": {"plan": own.plan, "path": own.folder / "b.plan.json"},
        "trace": traced,
        "unwrapped": {"model": own.model},
        "verify": {**traced, "exported": own.exported},
        "accuracy": {"model": own.model, "batches": own.data.test_batches()},
        "bip": learning,
        "compare_outputs": {"dense": own.model, "other": own.model, "batches": [own.x]},
        "cgap": learning,
        "finetune": learning,
        "fit": {"model": own.model, "data": own.data, "recipes": [Recipe(epochs=1, batch_size=2)]},
        "pgap": learning,
        "importance_masks taylor": {
            "graph": own.graph,
            "importance": "taylor",
            "data": labelled,
        },
        "importance_scores hrank": {"graph": own.graph, "importance": "hrank", "data": [own.x]},
        **{name: {"graph": own.graph, "data": [own.x]} for name in SCORING},
        "calibration_data": {"batches": [own.x], "model": own.model},
        "export baseline": {**traced, "masks": own.masks, "baseline": True, "output_masks": {"a": [0, 1, 2]}},
        **{name: vars(example) for name, example in EXAMPLES.items()},
        "Plan": {field.name: getattr(own.plan, field.name) for field in fields(own.plan)},
    }


def odd_values(own):
    """What people give by mistake, and worse; by a name for messages."""
    other = Small(5).eval()
    lazy = nn.Sequential(nn.LazyConv2d(3, 1)).eval()
    return {
        "None": None,
        "a text": "resnet18",
        "an empty text": "",
        "a path that is not there": Path("/nowhere/at/all"),
        "a whole number": 3,
        "a negative number": -1,
        "NaN": float("nan"),
        "bytes": b"\0",
        "an empty list": [],
        "a list of texts": ["b", "b.weight"],
        "a jagged list": [[0], [1, 2]],
        "a list of None": [None],
        "an empty mapping": {},
        "a mapping of numbers": {0: 1, 1: 2},
        "a mapping of None": {"b.weight": None},
        "a mapping of texts": {"b.weight": "x", "zzz": "y"},
        "a mapping to a jagged list": {"b": [[0], [1, 2]]},
        "a mask of the wrong length": {"b.weight": np.ones(3, bool)},
        "a mask of the wrong type": {"b.weight": np.full(6, 0.5)},
        "a mask of objects": {"b.weight": np.array([None] * 6)},
        "a mask in bfloat16": {"b.weight": torch.ones(6, dtype=torch.bfloat16)},
        "a mask on the meta device": {"b.weight": torch.ones(6, dtype=torch.bool, device="meta")},
        "pairs": [("b.weight", 1)],
        "odd pairs": [("b.weight", 1.5)],
        "triples": [("b.weight", 1, 2)],
        "an array": np.zeros((2, 3)),
        "an array of objects": np.array([None, "a"]),
        "a tensor": torch.ones(6),
        "a tensor of the wrong shape": torch.zeros(1, 5, 4, 4),
        "a tensor on the meta device": torch.zeros(1, 3, 4, 4, device="meta"),
        "two tensors": (torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)),
        "a class": Small,
        "an object": object(),
        "a function": len,
        "a scripted model": own.script,
        "a model of meta tensors": Small().to("meta").eval(),
        "a model in training": Small().train(),
        "another model": other,
        "a lazy model": lazy,
        "a trace of another model": own.other_graph,
        "a trace of meta tensors": own.meta_graph,
        "an export": own.exported,
        "a plan": own.plan,
        "a plan of another model": replace(own.plan, masks={"z.weight": np.ones(2, bool)}),
        "problems": own.problems,
        "a state_dict": own.model.state_dict(),
        "a state_dict of another model": other.state_dict(),
        "a state_dict of meta tensors": Small().to("meta").state_dict(),
        "results": own.results,
    }


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = Things(tmp_path_factory.mktemp("things"))
        own.script = torch.jit.script(own.model)
        own.other_graph = upscale_opt.trace(Small(5).eval(), own.x)
        own.meta_graph = upscale_opt.trace(Small().to("meta").eval(), own.x)
        return own


def public_functions():
    found = {name: getattr(upscale_opt, name) for name in sorted(upscale_opt.__all__)}
    found = {name: own for name, own in found.items() if inspect.isfunction(own)}
    found |= {
        "importance_masks taylor": found["importance_masks"],
        "importance_scores hrank": found["importance_scores"],
    }
    found |= {"export baseline": found["export"], "calibration_data": calibration_data, "Plan": upscale_opt.Plan}
    return {**found, **LEARNING, **SCORING, **{name: type(example) for name, example in EXAMPLES.items()}}


SLOW = ("allocate", "calibrate", "check_orders", "load_model", "speedup", *LEARNING)
"""Functions that take long with arguments that they accept: their valid calls are tested elsewhere."""


def test_there_is_a_valid_call_of_every_public_function(things, monkeypatch):
    """So that what is found below is due to the one argument that is changed."""
    monkeypatch.chdir(things.folder)
    calls = valid_calls(things)
    assert calls.keys() == public_functions().keys()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, arguments in calls.items():
            if name not in SLOW:
                public_functions()[name](**arguments)


def test_every_argument_of_every_public_function_is_checked():
    for name, function in public_functions().items():
        if inspect.isfunction(function) and name not in ("unwrapped", "calibration_data"):
            assert function.checks.keys() == inspect.signature(function).parameters.keys(), name
    assert all(callable(check) for check in CHECKS.values())


@pytest.mark.parametrize("name", public_functions())
def test_odd_arguments_are_refused_by_errors_of_this_package(name, things, monkeypatch):
    """Every argument in turn is replaced by every odd value: done, or refused in one sentence."""
    monkeypatch.chdir(things.folder)
    function, arguments = public_functions()[name], valid_calls(things)[name]
    foreign, number = [], 0
    for argument, parameter in inspect.signature(function).parameters.items():
        for what, value in odd_values(things).items():
            if name in SLOW and _is_fine(function, parameter, value):
                continue
            if argument == "progress" and callable(value):
                continue  # what it raises is meant to pass
            number += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    function(**{**arguments, argument: value})
            except OWN as error:
                if "\n" in str(error) or not str(error):
                    foreign.append(f"{argument} = {what}: not one sentence: {str(error)[:80]!r}")
            except Exception as error:
                foreign.append(f"{argument} = {what}: {type(error).__name__}: {str(error)[:150]}")
    assert not foreign, f"{len(foreign)} of {number} calls of {name}:\n" + "\n".join(foreign)
    assert all(torch.equal(own, before) for own, before in zip(things.model.parameters(), things.before, strict=True))


def _is_fine(function, parameter, value):
    """Whether a function that takes long would accept a value."""
    try:
        if value is not None or parameter.default is not None:
            function.checks[parameter.name](value, parameter.name)
    except OWN:
        return False
    return True
