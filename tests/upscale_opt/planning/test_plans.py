"""Tests that every defect of a plan file is one sentence that names it."""

import json

import networks
import pytest

from upscale_opt import AnalyticCosts, PlanError, read_plan, save_plan
from upscale_opt.planning.plan_files import plan_to_dict

DEFECTS = {
    "lacks the field 'orders'": lambda d: d.pop("orders"),
    "unknown field 'colour'": lambda d: d.update(colour="red"),
    "field 'masks' must be dict": lambda d: d.update(masks=[]),
    "mask 'down.weight' lacks the field 'kept'": lambda d: d["masks"]["down.weight"].pop("kept"),
    "mask 'down.weight': field 'length' is 1000000000000;": lambda d: d["masks"]["down.weight"].update(length=10**12),
    "field 'length' is 2, too small": lambda d: d["masks"]["down.weight"].update(length=2, kept=[5]),
    "field 'kept' must be a list of channel indices": lambda d: d["masks"]["down.weight"].update(kept=[10**30]),
    "order 'stem' must be a list of channel indices": lambda d: d["orders"].update(stem=[0.5]),
    "reads 'down' as 'glance'": lambda d: d["reads"].update(down="glance"),
    "the plan's model lacks the field 'name'": lambda d: d.update(
        model={"weights": None, "seed": 0, "input_shape": [1]}
    ),
    "field 'input_shape' must list positive": lambda d: d.update(
        model={"name": "a", "weights": None, "seed": 0, "input_shape": []}
    ),
    "newer than the 7": lambda d: d.update(version=8),
    "no upscale_opt.plan file": lambda d: d.update(format="upscale_opt.instance"),
}


@pytest.mark.parametrize("message", DEFECTS)
def test_every_defect_is_named(message, planned, tmp_path):
    document = plan_to_dict(planned(*networks.make(networks.Residual))[-1])
    DEFECTS[message](document)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_reads_in_pieces_are_kept_in_the_file_and_counted(planned, tmp_path):
    costs = AnalyticCosts(piece_ns=0, bytes_per_ns=1000, gather_bytes_per_ns=1, flops_per_ns=1)
    plan = planned(*networks.make(networks.Residual), objective="latency", costs=costs)[-1]
    save_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
    pieces = plan.count("pieces")
    assert pieces > 0 and f"{pieces} pieces" in str(plan)


def test_plans_of_version_1_are_still_read(planned, tmp_path):
    plan = planned(*networks.make(networks.Residual))[-1]
    (tmp_path / "plan.json").write_text(json.dumps({**plan_to_dict(plan), "version": 1}))
    assert read_plan(tmp_path / "plan.json") == plan.with_readings(late=True)


def test_plans_that_cannot_be_written_or_read_say_so(planned, tmp_path):
    plan = planned(*networks.make(networks.Residual))[-1]
    with pytest.raises(PlanError, match="choose a writable path"):
        save_plan(plan, tmp_path / "no" / "plan.json")
    with pytest.raises(PlanError, match="cannot read"):
        read_plan(tmp_path / "absent.json")


def _set(part, **changes):
    return lambda document: next(iter(document[part].values())).update(changes)


SPOILT = {
    "an unknown field": (lambda d: d.update(nonsense=1), "'nonsense'"),
    "an unknown field of a mask": (_set("masks", kind="input"), "'kind'"),
    "a mask's channel twice": (lambda d: next(iter(d["masks"].values()))["kept"].append(_first_kept(d)), "twice"),
    "an order's channel twice": (lambda d: _longest(d["orders"]).append(_longest(d["orders"])[0]), "twice"),
    "an unknown field of the model": (lambda d: d.update(model={**MODEL, "size": 1}), "'size'"),
    "a seed below 0": (lambda d: d.update(model={**MODEL, "seed": -1}), "'seed'"),
    "a seed that is true": (lambda d: d.update(model={**MODEL, "seed": True}), "'seed'"),
    "a width of nothing": (lambda d: d["widths"].update(nothing=8), "'nothing'"),
    "a slice of nothing": (lambda d: d.update(slices=["nothing"]), "'nothing'"),
    "a field of a later version": (lambda d: d.update(version=4, places={"a": "b"}), "'places'"),
    "output masks in a version without": (
        lambda d: d.update(version=2, outputs={"a.weight": {"length": 2, "kept": [0]}}),
        "'outputs'",
    ),
    "a place that is a number": (lambda d: d.update(places={"a": 1}), "places"),
    "a width that is true": (lambda d: d["widths"].update({next(iter(d["reads"])): True}), "width"),
}
MODEL = {"name": "resnet18", "weights": None, "seed": 0, "input_shape": [1, 3, 8, 8]}


def _first_kept(document):
    return next(iter(document["masks"].values()))["kept"][0]


def _longest(orders):
    return max(orders.values(), key=len)


@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_plans_are_one_sentence_that_names_the_field(what, planned, tmp_path):
    spoil, expected = SPOILT[what]
    document = plan_to_dict(planned(*networks.make(networks.Residual))[-1])
    spoil(document)
    (tmp_path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(PlanError) as caught:
        read_plan(tmp_path / "plan.json")
    assert expected in str(caught.value) and str(tmp_path / "plan.json") in str(caught.value)
