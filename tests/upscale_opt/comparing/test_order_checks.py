"""Predicted against measured: the floor, eleven orders, and statistics that respect noise."""

import json
from dataclasses import replace

import networks
import numpy as np
import pytest
import torch
from measuring import QUICK, masked
from torch import nn

from upscale_opt import effective_masks, trace
from upscale_opt.comparing.floors import floor_of, floor_of_plan
from upscale_opt.comparing.order_checks import _explaining, _medians, check_orders
from upscale_opt.comparing.pruning import prepare
from upscale_opt.comparing.scatter import save_scatter
from upscale_opt.errors import ModelError, UpscaleError
from upscale_opt.latency.agreement import INDISTINGUISHABLE, agreement, groups_of, worst_ranked_pair
from upscale_opt.latency.calibration import calibrate
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.models.outputs import tensors
from upscale_opt.modules.matrix_convolution import MatrixConv2d
from upscale_opt.modules.selections import Gather
from upscale_opt.planning.cost_model import AnalyticCosts
from upscale_opt.planning.plans import baseline_plan


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    model, inputs, graph, masks = masked(networks.Residual)
    tables = calibrate(masks, inputs, directory=tmp_path_factory.mktemp("tables"), effort=QUICK)
    costs = MeasuredCosts(tables, AnalyticCosts())
    made = prepare(model, inputs, masks, graph=graph, objective="latency", costs=costs)
    return made, check_orders(made, time_limit=1, repeats=2, accesses=True)


def test_eleven_orders_are_predicted_and_measured(checked):
    _, found = checked
    assert found.names[:6] == ("identity", "random 1", "random 2", "random 3", "baseline", "greedy")
    assert len(found.names) == len(found.predicted) == len(found.measured) == 11
    assert all(value > 0 for value in (*found.measured, found.floor)) and np.isfinite(found.predicted).all()
    assert "x floor" in str(found) and "per access" in str(found)
    assert len(found.worst_accesses()) == 10
    document = json.loads(json.dumps(found.to_dict()))
    assert set(document["orders"]) == set(found.names)
    assert len(document["floor_profile"]["seconds"]) == len(found.profiles["floor"].seconds)
    assert document["orders"]["greedy"]["accesses"]["down"]["measured"] == found.accesses["greedy"]["down"]
    assert {"mode", "expected", "least"} <= document["orders"]["greedy"]["accesses"]["down"].keys()


def test_orders_with_the_same_plan_are_one_export(checked, monkeypatch):
    """Measured once: two figures of one thing would be told apart by noise alone."""
    from upscale_opt.comparing import order_checks

    made, _ = checked
    counted, honest = [], order_checks.export
    monkeypatch.setattr(order_checks, "export", lambda *given, **how: counted.append(given) or honest(*given, **how))
    ordering = order_checks._orders

    def twice(*given):  # whether two orders come to one plan otherwise depends on what was measured
        orders = dict(ordering(*given))
        yield from {**orders, "exact span": orders["exact traffic"]}.items()

    monkeypatch.setattr(order_checks, "_orders", twice)
    found = check_orders(
        made, time_limit=1, repeats=2, copies=1, accesses=["exact traffic", "exact span"], verify=False
    )
    distinct = [name for name in found.names if name not in found.same_as]
    assert len(counted) == len(distinct) < len(found.names)
    assert not any(found.plans[a] == found.plans[b] for i, a in enumerate(distinct) for b in distinct[:i])
    place = {name: i for i, name in enumerate(found.names)}
    for name, first in found.same_as.items():
        assert found.plans[name] == found.plans[first] and first in distinct
        assert found.measured[place[name]] == found.measured[place[first]]
        assert found.predicted[place[name]] == found.predicted[place[first]]
        assert found.profiles[name] is found.profiles[first]
        assert f"same plan as {first}" in str(found) and found.to_dict()["orders"][name]["same_as"] == first
    assert found.accesses.keys() >= {"exact traffic", "exact span"}
    first = {name: found.same_as.get(name, name) for name in found.names}
    times = {name: found.accesses["exact span"] for name in found.names if first[name] == first["exact span"]}
    for measured in (times, {name: own for name, own in times.items() if name != first[name]}):
        listed = {order for order, *_ in replace(found, accesses=measured).worst_accesses(10**6)}
        assert len(listed) == bool(measured), "one order per plan, whichever of them were measured"


def test_copies_of_an_export_say_what_a_figure_is_worth():
    steady = {
        "floor 0": np.array([9.0, 9.0]),
        "floor 1": np.array([11.0, 11.0]),
        "greedy 0": np.array([20.0, 20.2, 20.4, 20.6]),
        "greedy 1": np.array([21.0, 21.2, 21.4, 21.6]),
    }
    medians, noise = _medians(steady, ["floor", "greedy"])
    assert medians == pytest.approx({"floor": 10.0, "greedy": 20.8})
    assert noise == pytest.approx(np.sqrt((2 + 0.5) / 2))  # variances between copies: of 9 and 11, of 20.3 and 21.3
    alone = {name: own for name, own in steady.items() if name.endswith("0")}
    assert _medians(alone, ["floor", "greedy"])[1] == pytest.approx(0.15)  # half of 20.15 to 20.45


def test_every_copy_is_measured(checked):
    made, found = checked
    assert all(len(found.profiles[name].seconds) == 2 * 4 for name in found.names)
    assert len(found.profiles["floor"].seconds) == 2 * 8  # everything else is compared with it
    with pytest.raises(ModelError, match="copies is 0; give a whole number of at least 1"):
        check_orders(made, copies=0)


def test_other_models_are_measured_beside_the_orders(checked):
    made, _ = checked
    found = check_orders(made, time_limit=1, repeats=2, copies=1, verify=False, beside={"unpruned": made.model})
    assert found.beside["unpruned"] > 0 and "unpruned" not in found.names
    assert len(found.profiles["unpruned"].seconds) == 2 and "unpruned" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["beside"] == dict(found.beside)
    with pytest.raises(UpscaleError, match="beside the orders there is a model 'greedy'"):
        check_orders(made, copies=1, beside={"greedy": made.model})


@pytest.mark.slow
def test_torchscript_is_traced_once_per_model_and_not_per_copy(checked, monkeypatch):
    """Tracing took most of a check's time on a GPU."""
    made, _ = checked
    traced, honest = [], torch.jit.trace
    monkeypatch.setattr(
        torch.jit, "trace", lambda module, *given, **how: traced.append(module) or honest(module, *given, **how)
    )
    found = check_orders(made, time_limit=1, repeats=2, copies=3, verify=False, backend="torchscript")
    distinct = len(found.names) - len(found.same_as)
    assert len(traced) == distinct + 1
    assert {own.backend for own in found.profiles.values()} == {"torchscript"}
    assert len(found.profiles["greedy"].seconds) == 2 * 3


def test_accesses_of_orders_named_and_of_the_worst_predicted_are_measured(checked):
    found = check_orders(checked[0], time_limit=1, repeats=2, copies=1, accesses=("greedy",), verify=False)
    errors = [abs(p / m - 1) for p, m in zip(found.predicted, found.measured, strict=True)]
    pair = worst_ranked_pair(found.predicted, found.measured, tolerance=2 * found.noise)
    misranked = {found.names[i] for i in pair or ()}
    assert set(found.accesses) == {"greedy", found.names[int(np.argmax(errors))], *misranked}
    assert (found.misranking is None) == (pair is None)


def test_the_two_orders_ranked_wrongly_are_compared_access_by_access(checked):
    """Equal errors in both orders rank nothing wrongly; one access of the slower order does."""
    _, found = checked
    names, common = ("identity", "greedy", "exact span"), {"down": 5e-3, "head": 1e-3}
    expected = {
        name: {a: replace(e, nanoseconds=0.0) for a, e in own.items()}
        for name, own in found.expected.items()
        if name in names
    }
    accesses = {name: dict.fromkeys(expected[name], 1e-4) | common for name in names}
    accesses["exact span"] |= {"head": 4e-3, "stem": 1.1e-3}
    figures = {"predicted": (3.0, 2.0, 1.9), "measured": (3.0, 2.0, 2.5), "noise": 0.1}
    made = replace(found, names=names, expected=expected, accesses=accesses, **figures)
    wrong = made.misranking
    assert (wrong.faster, wrong.slower) == ("greedy", "exact span")
    assert np.isclose(wrong.model.expected, -0.1) and np.isclose(wrong.model.measured, 0.5)
    assert [own.name for own in wrong.accesses[:2]] == ["head", "stem"]
    assert np.isclose(wrong.accesses[0].measured, 3e-3) and np.isclose(wrong.all_accesses.measured, 4e-3)
    assert all(own.unexpected == 0 for own in wrong.accesses[2:]) and "down" in {own.name for own in wrong.accesses[2:]}
    assert "rank furthest off: exact span is slower than greedy, which was predicted to be no faster" in str(made)
    assert "  head: expected +0 us, measured +3000 us" in str(made)
    assert json.loads(json.dumps(made.to_dict()))["misranking"]["accesses"][0]["name"] == "head"
    assert replace(made, predicted=(3.0, 2.0, 2.4)).misranking is None
    assert replace(made, accesses={"greedy": accesses["greedy"]}).misranking is None, "one was not measured"


def test_orders_ranked_wrongly_are_among_those_whose_accesses_are_measured():
    predicted, measured = {"a": 1.0, "b": 2.0, "c": 1.9, "d": 4.0}, {"a": 1.0, "b": 2.0, "c": 2.5, "d": 9.0}
    assert _explaining(predicted, measured, 0.1, ["a"]) == ["a", "b", "c", "d"]
    assert _explaining(predicted, measured, 0.3, ["a"]) == ["a", "d"], (
        "within twice the noise nothing is ranked wrongly"
    )
    assert _explaining(predicted, measured, 0.1, True) == list("abcd")
    assert _explaining(predicted, measured, 0.1, False) == []


def test_predictions_are_the_floor_plus_what_each_access_adds(checked):
    _, found = checked
    for name, predicted in zip(found.names, found.predicted, strict=True):
        added = sum(own.nanoseconds - own.least for own in found.expected[name].values())
        assert np.isclose(predicted, found.floor + added / 1e9)


def test_no_order_is_expected_to_beat_the_best_by_the_tables(checked):
    """The solver orders for the same tables that predict; the baseline is never expected to be faster."""
    _, found = checked
    predicted = dict(zip(found.names, found.predicted, strict=True))
    assert predicted["exact latency"] <= min(predicted[name] for name in ("baseline", "identity")) + 1e-9


def test_the_picture_is_written(checked, tmp_path):
    save_scatter(checked[1], tmp_path / "scatter.png", title="a test")
    assert (tmp_path / "scatter.png").stat().st_size > 1000


@pytest.mark.parametrize("network", [networks.Residual, networks.Dense, networks.Shared, networks.Flattened])
def test_the_floor_has_no_selections_and_the_right_shapes(network):
    model, inputs, graph, masks = masked(network)
    made = prepare(model, inputs, masks, graph=graph)
    floor = floor_of(model, inputs, made, made.problems)
    assert not any(isinstance(module, Gather) for module in floor.modules())
    views = [node for node in floor.graph.nodes if node.target in ("narrow", "as_strided")]
    assert views and (network is not networks.Dense or any(node.target == "narrow" for node in views))
    with torch.inference_mode():
        found, expected = floor(*inputs), model(*inputs)
    assert found.shape == expected.shape


@pytest.mark.parametrize("network", networks.ALL)
def test_every_network_has_a_floor(network):
    """`compare` and `profile` measure it beside the exports."""
    model, inputs, graph, masks = masked(network)
    made = prepare(model, inputs, masks, graph=graph)
    floor = floor_of(model, inputs, made, made.problems)
    with torch.inference_mode():
        found, expected = (tensors(own(*(x.clone() for x in inputs))) for own in (floor, model))
    assert [y.shape for y in found] == [y.shape for y in expected]


def test_the_floor_of_a_plan_computes_as_the_plan_does():
    model, inputs, graph, masks = masked(networks.Residual)
    made = prepare(model, inputs, masks, graph=graph)
    own = baseline_plan(made.problems, made.masks).with_readings(["down"], kernel="matmul")
    floor = floor_of_plan(model, inputs, own)
    assert isinstance(floor.get_submodule("down"), MatrixConv2d)
    assert not any(isinstance(module, Gather) for module in floor.modules())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_consumers_of_the_floor_read_what_is_contiguous(memory_format):
    model, inputs, graph, masks = masked(networks.Residual)
    model, inputs = model.to(memory_format=memory_format), (inputs[0].contiguous(memory_format=memory_format),)
    made = prepare(model, inputs, masks, graph=graph)
    floor, seen = floor_of(model, inputs, made, made.problems), []
    floor.get_submodule("down").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        floor(*inputs)
    assert seen[0].shape[1] == int(made.masks["down.weight"].sum()) < model.down.in_channels
    assert seen[0].is_contiguous(memory_format=memory_format)


class Spread(nn.Module):
    """Two consumers of a tensor whose pixels share their memory: less of it than either is handed."""

    def __init__(self):
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1), nn.Conv2d(12, 4, 3)

    def forward(self, x):
        y = self.first(x.mean((2, 3), keepdim=True)).expand(-1, -1, 5, 5)
        return self.left(y)[:, :, 1:4, 1:4] + self.right(y)


def test_the_floor_of_tensors_that_overlap_in_memory():
    model, x = Spread().eval(), torch.randn(2, 3, 6, 6)
    graph = trace(model, x)
    masks = effective_masks(graph, {"left": np.arange(12) % 2 == 0, "right": np.arange(12) % 3 == 0})
    made = prepare(model, x, masks, graph=graph)
    floor = floor_of(model, x, made, made.problems)
    assert [node.target for node in floor.graph.nodes if node.target in ("narrow", "as_strided")] == ["narrow"] * 2
    with torch.inference_mode():
        assert floor(x).shape == model(x).shape


def test_the_floor_computes_by_the_kernels_it_is_given():
    model, inputs, graph, masks = masked(networks.Residual)
    made = prepare(model, inputs, masks, graph=graph)
    floor = floor_of(model, inputs, made, made.problems, kernels={"down": "matmul"})
    assert isinstance(floor.get_submodule("down"), MatrixConv2d)


def test_agreement_of_a_perfect_order_and_of_a_reversed_one():
    perfect = agreement([1, 2, 3], [10, 20, 30])
    assert (perfect.spearman, perfect.kendall, perfect.concordance) == (1, 1, 1)
    assert np.isclose(perfect.percentage_error, 90)
    assert agreement([3, 2, 1], [10, 20, 30]).spearman == -1


def test_what_cannot_be_told_apart_does_not_count():
    """Two latencies within the tolerance in the wrong order: all other pairs are right."""
    found = agreement([1.0, 2.1, 2.0, 5.0], [1.0, 2.0, 2.05, 5.0], tolerance=0.1)
    assert found.concordance == 1 and found.num_distinct == 5 and found.spearman < 1
    assert np.isclose(found.spearman_of_groups, 1)
    alike = agreement([1.0, 2.0, 3.0], [1.0, 1.01, 1.02], tolerance=0.1)
    assert alike.verdict == INDISTINGUISHABLE and alike.concordance is None and alike.spearman_of_groups is None
    assert groups_of(np.array([1.0, 1.01, 1.02]), 0.1).tolist() == [0, 0, 0]


def test_pairs_within_the_noise_are_ranked_neither_rightly_nor_wrongly():
    predicted, measured = [1.0, 2.1, 1.5, 0.5], [1.0, 2.0, 2.2, 4.0]
    assert worst_ranked_pair(predicted, measured) == (1, 3)
    assert worst_ranked_pair(predicted[:3], measured[:3]) == (1, 2)
    assert worst_ranked_pair(predicted[:3], measured[:3], tolerance=0.3) is None
    assert worst_ranked_pair([1.0, 1.0], [1.0, 2.0]) == (0, 1), "alike where they are not"


def test_equal_predictions_share_a_rank():
    """Which of them stands first in the list says nothing."""
    measured = [1.0, 2.0, 3.0]
    assert agreement([1.0, 1.0, 1.0], measured, tolerance=0.5).spearman_of_groups is None
    for predicted in ([2.0, 1.0, 2.0], [2.0, 2.0, 1.0]):
        found = agreement(predicted, measured, tolerance=0.5)
        assert found.spearman_of_groups == pytest.approx(found.spearman)
    tied = agreement([5.0, 4.0, 4.0, 5.0, 4.0], [1.0, 1.0, 1.0, 1.0, 2.0], tolerance=0.5)
    assert tied.spearman_of_groups == -1


def test_one_value_is_no_agreement():
    with pytest.raises(ValueError, match="at least two"):
        agreement([1.0], [1.0])
