"""Groups of convolutions that change places: which may, and that exports with them moved are exact."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from problems import Order
from solvers import solve
from upscale_opt import export, extract, load, plan, read_plan, save_plan, trace
from upscale_opt.errors import PlanError
from upscale_opt.planning.plan_files import plan_from_dict, plan_to_dict
from upscale_opt.planning.plans import plan_of_orders


class Grouped(nn.Module):
    """A convolution with four groups, and whatever a test puts behind it."""

    def __init__(self, behind, out=24, **layers):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.bn = nn.BatchNorm2d(16)
        self.mid = nn.Conv2d(16, out, 3, padding=1, groups=4)
        self.layers = nn.ModuleDict(layers)
        self.first, self.second = nn.LazyConv2d(5, 1), nn.LazyConv2d(5, 3, padding=1)
        self.behind = behind

    def forward(self, x):
        x = functional.relu(self.bn(self.stem(x)))
        y = self.behind(self.layers, x, functional.relu(self.mid(x)))
        return self.first(y) + self.second(y)


def made(behind=lambda layers, x, y: y, **layers):
    torch.manual_seed(0)
    model, inputs = Grouped(behind, **layers), torch.randn(2, 3, 6, 6)
    model(inputs)
    return model.eval(), inputs


def places(model, inputs):
    """Number of units of every bundle."""
    return [len(bundle.units) for bundle in trace(model, inputs).bundles]


def whole_groups(*groups, of=4, size=6):
    return np.isin(np.arange(of), groups).repeat(size)


def test_whole_groups_move_together_with_the_next_layer():
    """Two consumers that keep whole groups read views once the groups have changed places, and the stem goes along."""
    model, inputs = made()
    graph = trace(model, inputs)
    masks = {"first.weight": whole_groups(0, 2), "second.weight": whole_groups(1, 2)}
    problems = extract(graph, masks)
    assert list(problems) == ["x", "stem", "first"]
    in_place = solve(problems["stem"].arranged([]))
    results = {name: solve(problem) for name, problem in problems.items()}
    assert (in_place.value, results["stem"].value) == (12, 0)
    chosen = plan(problems, masks, results)
    exported = export(model, inputs, chosen)
    assert exported.verification.passed and {own.mode for own in chosen.readings.values()} == {"view"}
    assert [exported.module.get_submodule(name).in_channels for name in ("first", "second")] == [12, 12]
    moved = [int(name[4:].split(":")[0]) // 6 for name in chosen.places if name.startswith("mid")]
    assert moved and {f"stem[{4 * g}:{4 * g + 4}]" for g in moved} <= set(chosen.places)
    again = trace(exported.module, inputs)
    assert not again.unsupported and "index_select" not in exported.module.code


CASES = {
    "alone": (lambda layers, x, y: y, {}, [4]),
    "a chain of groups": (lambda layers, x, y: layers["next"](y), {"next": nn.Conv2d(24, 8, 1, groups=4)}, [4]),
    "outer groups": (lambda layers, x, y: layers["next"](y), {"next": nn.Conv2d(24, 8, 1, groups=2)}, [2]),
    "inner groups": (lambda layers, x, y: layers["next"](y), {"next": nn.Conv2d(24, 8, 1, groups=8)}, [4]),
    "joined": (lambda layers, x, y: torch.cat([y, x, y], 1), {}, [4]),
    "a residual": (lambda layers, x, y: x + y, {"out": 16}, [4]),
    "a normalisation": (lambda layers, x, y: layers["norm"](y), {"norm": nn.BatchNorm2d(24)}, [4]),
    "one group each": (lambda layers, x, y: layers["next"](y), {"next": nn.Conv2d(24, 48, 3, groups=24)}, [4]),
    "a shuffle": (lambda layers, x, y: layers["shuffle"](y), {"shuffle": nn.ChannelShuffle(4)}, [4]),
    "a slice after half of them": (lambda layers, x, y: torch.cat([y[:, :12], y], 1), {}, [2, 2]),
    "a slice of one in the middle": (lambda layers, x, y: torch.cat([y[:, 6:12], y], 1), {}, [2]),
    "a normalisation with groups": (lambda layers, x, y: layers["norm"](y), {"norm": nn.GroupNorm(2, 24)}, [2, 2]),
    "as many groups to normalise": (lambda layers, x, y: layers["norm"](y), {"norm": nn.GroupNorm(4, 24)}, []),
    "something unknown": (lambda layers, x, y: torch.cumsum(y, 1), {}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_groups_that_may_change_places_are_found_and_exported_exactly(case, planned):
    behind, layers, expected = CASES[case]
    model, inputs = made(behind, **layers)
    assert places(model, inputs) == expected
    for seed in range(6):
        chosen = planned(model, inputs, seed=seed, objective=("copies", "traffic")[seed % 2])[-1]
        exported = export(model, inputs, chosen)
        assert exported.verification.passed and exported.verification.relative_error <= 1e-9
        assert bool(chosen.places) <= bool(expected)


def test_groups_of_two_tensors_do_not_mix(planned):
    """A convolution reads a concatenation: its groups change places within what one producer computes."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
            self.mid, self.head = nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 4, 1)

        def forward(self, x):
            return self.head(self.mid(torch.cat([self.left(x), self.right(x)], 1)))

    model, inputs = Two().eval(), torch.randn(1, 3, 5, 5)
    assert places(model, inputs) == [2, 2]
    for seed in range(4):
        assert export(model, inputs, planned(model, inputs, seed=seed)[-1]).verification.passed


def test_plans_with_places_survive_files_and_load_both_state_dicts(planned, tmp_path):
    model, inputs = made()
    _, masks, problems, _ = planned(model, inputs)
    orders = {name: Order.random(problem, np.random.default_rng(3)) for name, problem in problems.items()}
    chosen = plan_of_orders(problems, masks, orders)
    assert chosen.places
    save_plan(chosen, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert again == chosen and again.places == chosen.places
    exported = export(model, inputs, again)
    expected = exported.module(inputs)
    for state in (model.state_dict(), exported.module.state_dict()):
        assert torch.allclose(load(again, model, state, inputs).module(inputs), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nothing": "mid[0:6]"}, "gives block 'nothing' another place"),
        ({"mid[0:6]": "mid[6:12]", "mid[6:12]": "mid[0:6]"}, "not all of a unit do"),
        ({"mid[0:6]": "stem[0:4]"}, "cannot make room"),
    ],
)
def test_plans_with_impossible_places_are_refused(given, message, planned):
    model, inputs = made()
    chosen = planned(model, inputs)[-1]
    document = {**plan_to_dict(chosen), "places": given}
    with pytest.raises(PlanError, match=message):
        export(model, inputs, plan_from_dict(document))


def test_where_nobody_reads_them_groups_stay():
    """Linked segments and places to decide only where an access could gain by them."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(8 * 16, 3)).eval()
    inputs = torch.randn(1, 3, 6, 6)
    assert all(not problem.bundles or problem.accesses for problem in extract(trace(model, inputs), {}).values())
