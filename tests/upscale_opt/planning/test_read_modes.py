"""Wider ranges, shared gathers, and how plan files hold them."""

import copy
import json

import networks
import numpy as np
import pytest
import torch

from problems.objectives import COPY, OVER_READ, PIECES
from upscale_opt import PlanError, export, load, read_plan, save_as, save_plan
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.plan_files import plan_from_dict, plan_to_dict
from upscale_opt.planning.plans import Plan
from upscale_opt.planning.reading import FUSED, MATMUL, Reading


def stored_of(problems):
    return {a.name: sum(len(p.stored[b]) for b in a.blocks) for p in problems.values() for a in p.accesses}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_ranges_wider_than_needed_compute_the_same(share, planned):
    """Up to everything that is stored; the columns of channels nobody wants are zero."""
    model, inputs = networks.make(networks.Residual)
    graph, masks, problems, plan = planned(model, inputs, objective="span")
    stored = stored_of(problems)
    kept = {a.name: a.num_kept for p in problems.values() for a in p.accesses}
    widths = {name: kept[name] + round(share * (stored[name] - kept[name])) for name in plan.readings}
    for name, width in widths.items():
        plan = plan.with_readings([name], width=width)
    exported = export(model, inputs, plan, graph=graph)
    assert exported.verification.passed
    assert exported.module.down.in_channels >= widths["down"]
    unwanted = ~masks["down.weight"][exported.slices["down.weight"].indices[1]]
    assert not exported.module.down.weight[:, torch.from_numpy(unwanted)].any()


def test_equal_sets_of_one_tensor_are_gathered_once(planned):
    model, inputs = networks.make(networks.Shared)
    graph, masks, _, _ = planned(model, inputs)
    masks = {**masks, "side.weight": np.arange(10) % 2 == 0, "conv.weight": np.arange(10) % 2 == 0}
    from upscale_opt import extract
    from upscale_opt.planning.plans import baseline_plan

    problems = extract(graph, masks)
    plan = baseline_plan(problems, masks)
    wide = plan.with_readings(mode=COPY)
    exported = export(model, inputs, wide, graph=graph)
    gathers = [path for path, module in exported.module.named_modules() if isinstance(module, Gather)]
    assert exported.verification.passed
    assert "conv_gather" in gathers and "side_gather" not in gathers


def test_a_width_beyond_what_is_stored_is_refused(planned):
    model, inputs = networks.make(networks.Residual)
    graph, _, _, plan = planned(model, inputs, objective="span")
    with pytest.raises(PlanError, match="channels for 'down', but"):
        export(model, inputs, plan.with_readings(["down"], width=17), graph=graph)


def test_all_calls_of_a_consumer_read_the_widest_range():
    plan = Plan({}, {}, {"head": PIECES, "head#2": Reading(OVER_READ, 7, MATMUL), "tail": COPY})
    assert plan.readings == {
        "head": Reading(OVER_READ, 7),
        "head#2": Reading(OVER_READ, 7, MATMUL),
        "tail": Reading(COPY),
    }


def test_plan_files_hold_widths_kernels_and_slices(planned, tmp_path):
    model, inputs = networks.make(networks.Dense)
    graph, _, problems, plan = planned(model, inputs, objective="span")
    plan = plan.with_readings(["last"], width=stored_of(problems)["last"], kernel=MATMUL)
    exported = export(model, inputs, plan, graph=graph)
    save_plan(exported.plan, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert again == exported.plan and again.readings["last"].kernel == MATMUL
    assert export(model, inputs, again, graph=graph).verification.passed


def test_plans_of_version_3_select_in_front_of_consumers(planned):
    """As they did when their pruned weights were saved."""
    document = plan_to_dict(planned(*networks.make(networks.Dense))[-1])
    for name in ("widths", "kernels", "slices"):
        del document[name]
    with pytest.raises(Exception, match="widths"):
        plan_from_dict(document)
    assert all(own.late for own in plan_from_dict({**document, "version": 3}).readings.values())


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("widths", {"last": 0}, "whole number of channels"),
        ("kernels", {"last": "magic"}, "kernels are matmul"),
        ("slices", [3], "list of access names"),
    ],
)
def test_wrong_fields_are_named(field, value, complaint, planned, tmp_path):
    document = plan_to_dict(planned(*networks.make(networks.Dense))[-1])
    (tmp_path / "plan.json").write_text(json.dumps({**document, field: value}))
    with pytest.raises(PlanError, match=complaint):
        read_plan(tmp_path / "plan.json")


def test_a_consumer_that_gathers_by_itself_computes_the_same(planned):
    """Where there is no GPU it is the gather and the convolution; names and parameters stay."""
    from upscale_opt.planning.reading import GATHERING

    model, inputs = networks.make(networks.Inverted)
    graph, _, _, plan = planned(model, inputs)
    copies = ("head", "expand")
    exported = export(model, inputs, plan.with_readings(copies, mode=COPY, kernel=GATHERING), graph=graph)
    assert exported.verification.passed
    for name in copies:
        assert type(exported.module.get_submodule(name)) is GatherConv2d
        assert f"{name}_gather" not in dict(exported.module.named_modules())
    wrong = "stem"
    with pytest.raises(PlanError, match="gather"):
        export(model, inputs, plan.with_readings([wrong], kernel=GATHERING), graph=graph)


@pytest.mark.parametrize("kernel", [MATMUL, "gathering"])
def test_kernels_compute_behind_what_serves_a_consumer_alone(planned, kernel):
    """Channels are selected behind normalisation and activation, by the kernel itself or in front of it."""
    model, inputs = networks.make(networks.Dense)
    graph, _, _, plan = planned(model, inputs)
    own = plan.with_readings(late=True).with_readings(["last"], mode=COPY, kernel=kernel)
    exported = export(model, inputs, own, graph=graph)
    assert exported.verification.passed and type(exported.module.get_submodule("last")) is not torch.nn.Conv2d


class DenseLayer(torch.nn.Module):
    """A concat that is normalised and activated for one 1x1 convolution, as DenseNet has them."""

    def __init__(self, relu=None):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.relu = torch.nn.BatchNorm2d(16), relu or torch.nn.ReLU(inplace=True)
        self.last, self.head = torch.nn.Conv2d(16, 6, 1), torch.nn.Conv2d(6, 4, 1)

    def forward(self, x):
        y = self.first(x)
        return self.head(self.last(self.relu(self.norm(torch.cat([y, self.second(y)], 1)))))


def fused(planned, relu=None):
    model, inputs = DenseLayer(relu).eval(), (torch.randn(2, 3, 6, 6),)
    with torch.no_grad():
        for own in (model.norm.weight, model.norm.bias, model.norm.running_mean):
            own.normal_()
    graph, _, _, plan = planned(model, inputs)
    own = plan.with_readings(["last"], mode=COPY, kernel=FUSED, late=False)
    return model, inputs, graph, own, export(model, inputs, own, graph=graph)


@pytest.mark.parametrize("relu", [None, torch.relu, lambda x: x.relu()])
def test_a_kernel_may_do_the_work_of_what_serves_a_consumer_alone(relu, planned):
    """Without a GPU the modules do it: outputs, gradients, names and training are those of the plain export."""
    model, inputs, graph, own, exported = fused(planned, relu)
    assert exported.verification.passed
    module = exported.module.get_submodule("last")
    assert type(module) is GatherConv2d and module._prologue[0] is exported.module.norm
    plain = export(model, inputs, own.with_readings(["last"], kernel=""), graph=graph)
    assert exported.module.state_dict().keys() == plain.module.state_dict().keys()
    assert len(list(exported.module.graph.nodes)) < len(list(plain.module.graph.nodes))
    for module in (exported.module, plain.module):
        module.train()
        module(*(x.clone() for x in inputs))
    after = plain.module.state_dict()
    for name, tensor in exported.module.state_dict().items():
        assert torch.allclose(tensor, after[name]), name


@pytest.mark.parametrize("relu", [None, torch.relu])
def test_fused_exports_are_saved_loaded_copied_and_exported_again(relu, planned, tmp_path):
    model, inputs, _, _, exported = fused(planned, relu)
    expected = exported.module(*inputs)
    for form in ("torchscript", "pt2"):
        save_as(exported, tmp_path / f"a.{form}", form)
    again = load(exported.plan, model, exported.module.state_dict(), inputs)
    assert torch.equal(again.module(*inputs), expected)
    assert torch.equal(copy.deepcopy(exported.module)(*inputs), expected)
    second = export(exported.module, inputs, masks={}, baseline=True)
    assert second.verification.passed and torch.allclose(second.module(*inputs), expected, atol=1e-6)
    save_plan(exported.plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == exported.plan


def test_only_what_the_kernel_can_do_is_fused(planned):
    model, inputs = networks.make(networks.Inverted)
    graph, _, _, plan = planned(model, inputs)
    with pytest.raises(PlanError, match="BatchNorm2d"):
        export(model, inputs, plan.with_readings(["head"], mode=COPY, kernel=FUSED), graph=graph)
    model, inputs = networks.make(networks.Dense)
    graph, _, _, plan = planned(model, inputs)
    with pytest.raises(PlanError, match="BatchNorm2d"):
        export(model, inputs, plan.with_readings(["last"], mode=COPY, kernel=FUSED, late=True), graph=graph)
