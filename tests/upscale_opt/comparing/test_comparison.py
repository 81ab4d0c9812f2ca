"""Tests of the whole road in one call, and of the measuring."""

import json

import networks
import numpy as np
import pytest

from problems import Objective
from upscale_opt import AnalyticCosts, ModelError, compare, l2_masks, profile, profile_interleaved, trace


def test_compare_gives_results_exports_and_latencies():
    model, inputs = networks.make(networks.Residual)
    masks = l2_masks(trace(model, inputs), 0.5)
    comparison = compare(model, inputs, masks, solvers=("greedy", "cp-sat"), repeats=3)
    assert comparison.solvers == ("greedy", "cp-sat")
    assert list(comparison.latencies) == ["unpruned", "baseline", "greedy", "cp-sat", "floor"]
    assert all(exported.verification.passed for exported in comparison.exports.values())
    for results in comparison.solutions.values():
        assert results["cp-sat"].value <= results["greedy"].value
    document = json.loads(json.dumps(comparison.to_dict()))
    assert list(document["latency"]) == list(comparison.latencies)
    assert {segment["name"] for segment in document["segments"]} == set(comparison.masked.problems)
    text = str(comparison)
    assert "stem" in text and "unpruned" in text


def test_latency_is_compared_with_the_costs_given():
    """Analytic tables by default; own ones if given; verified; the document says where they come from."""
    model, inputs = networks.make(networks.Residual)
    masks = l2_masks(trace(model, inputs), 0.5)
    comparison = compare(model, inputs, masks, objective="latency", measure=False)
    assert comparison.masked.costs == AnalyticCosts()
    assert all(exported.verification.passed for exported in comparison.exports.values())
    document = json.loads(json.dumps(comparison.to_dict()))
    assert (document["objective"], document["costs"]) == ("latency", "analytic")
    assert "costs: analytic" in str(comparison) and "not measured" in str(comparison)

    joins = AnalyticCosts(piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
    time = Objective("time", uses_tables=True)
    own = compare(model, inputs, masks, objective=time, costs=joins, measure=False).to_dict()
    assert own["totals"]["greedy"]["pieces"] > 0 and own["totals"]["greedy"]["copies"] == 0
    assert own["cost_model"] == str(joins)
    plain = compare(model, inputs, masks, ("greedy",), measure=False)
    assert plain.masked.costs is None and plain.to_dict()["costs"] is None


def test_profiles_have_the_figures_they_name():
    model, inputs = networks.make(networks.Residual)
    measured = profile(model, inputs, repeats=5)
    assert len(measured.seconds) == 5 and min(measured.seconds) > 0
    assert measured.median == float(np.median(measured.seconds))
    assert measured.mean == pytest.approx(np.mean(measured.seconds)) and measured.std >= 0 and measured.iqr >= 0
    assert measured.environment["torch"] and measured.device == "cpu"
    assert measured.to_dict()["seconds"] == list(measured.seconds)
    assert measured.stolen is None or 0 <= measured.stolen <= 1


def test_interleaved_profiles_take_turns():
    """A B A B: the order of calls is recorded by the models themselves."""
    import torch

    calls = []

    class Recorder(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def forward(self, x):
            if not calls or calls[-1] != self.name:
                calls.append(self.name)
            for _ in range(2000):
                x = x + 1
            return x

    profile_interleaved({"a": Recorder("a"), "b": Recorder("b")}, torch.zeros(1), repeats=4)
    assert calls == ["a", "b"] * 5  # warm-up, then four rounds


def test_one_run_is_no_measurement():
    model, inputs = networks.make(networks.Residual)
    with pytest.raises(ModelError, match="at least 2 repeats"):
        profile(model, inputs, repeats=1)


def test_torchscript_is_measured_as_it_is():
    """TorchScript modules are accepted beside others, and their profiles say so."""
    import warnings

    import torch

    model, inputs = networks.make(networks.Residual)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.trace(model, inputs)
    profiles = profile_interleaved({"eager": model, "script": script}, inputs, repeats=2)
    assert {name: own.backend for name, own in profiles.items()} == {"eager": "eager", "script": "torchscript"}
    assert all(len(own.seconds) == 2 for own in profiles.values())
