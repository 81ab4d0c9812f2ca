"""Tests that every defect of a plan file is one sentence that names it."""

import json
from dataclasses import replace

import networks
import pytest

from upscale_opt import AnalyticCosts, PlanError, read_plan, save_plan
from upscale_opt.plans import plan_to_dict

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
    "newer than the 6": lambda d: d.update(version=7),
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
    pieces = list(plan.reads.values()).count("pieces")
    assert pieces > 0 and f"{pieces} pieces" in str(plan)


def test_plans_of_version_1_are_still_read(planned, tmp_path):
    plan = planned(*networks.make(networks.Residual))[-1]
    (tmp_path / "plan.json").write_text(json.dumps({**plan_to_dict(plan), "version": 1}))
    assert read_plan(tmp_path / "plan.json") == replace(plan, slices=frozenset())


def test_plans_that_cannot_be_written_or_read_say_so(planned, tmp_path):
    plan = planned(*networks.make(networks.Residual))[-1]
    with pytest.raises(PlanError, match="choose a writable path"):
        save_plan(plan, tmp_path / "no" / "plan.json")
    with pytest.raises(PlanError, match="cannot read"):
        read_plan(tmp_path / "absent.json")
