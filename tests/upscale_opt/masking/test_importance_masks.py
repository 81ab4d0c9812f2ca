"""Tests of masks by importance: exact counts, thresholds, amounts of layers' own, the registry, and exact exports."""

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from solvers import solve
from upscale_opt import (
    IMPORTANCES,
    Importance,
    MaskError,
    ModelReference,
    constrained_masks,
    effective_masks,
    export,
    extract,
    importance_masks,
    importance_scores,
    l2_masks,
    l2_output_masks,
    load_model,
    plan,
    register_importance,
    trace,
)
from upscale_opt.arguments.amounts import num_removed

METHODS = tuple(IMPORTANCES)
AMOUNTS = [f"{hundredths / 100:.2f}" for hundredths in range(100)]


class Normalised(nn.Module):
    """A residual stream, a concatenation and a linear layer, every convolution followed by a BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.convs = nn.ModuleList([nn.Conv2d(12, 12, 3, padding=1) for _ in range(3)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(12) for _ in range(3)])
        self.side, self.side_bn = nn.Conv2d(12, 7, 1), nn.BatchNorm2d(7)
        self.join, self.join_bn = nn.Conv2d(19, 10, 1), nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    def forward(self, x):
        x = functional.relu(self.bn(self.stem(x)))
        side = functional.relu(self.side_bn(self.side(x)))
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = functional.relu(bn(conv(x)) + x)
        x = functional.relu(self.join_bn(self.join(torch.cat([side, x], 1))))
        return self.head(x.mean([2, 3]))


def labelled(size=8, images=4, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(images, 3, size, size, generator=generator), torch.arange(images) % 5)]


@pytest.fixture
def normalised():
    return networks.make(Normalised)


@pytest.fixture
def graph(normalised):
    return trace(*normalised)


def removed(masks):
    return {name: int((~mask).sum()) for name, mask in masks.items()}


@pytest.mark.parametrize(("mode", "layers"), [("input", 5), ("output", 6)])
def test_local_counts_are_exact_at_every_amount(graph, mode, layers):
    for amount in AMOUNTS:
        masks = importance_masks(graph, "lamp", amount, mode=mode)
        assert removed(masks) == {name: num_removed(amount, len(mask)) for name, mask in masks.items()}
        assert len(masks) == layers


@pytest.mark.parametrize("importance", ["l2", "lamp", "random"])
@pytest.mark.parametrize("mode", ["input", "output"])
def test_global_counts_are_exact_at_every_amount_until_every_layer_has_one_channel(graph, mode, importance):
    """The kept are all at least as strong as the removed, but for the strongest channel of a layer."""
    scores = importance_scores(graph, importance, mode=mode)
    total = sum(len(score) for score in scores.values())
    for amount in AMOUNTS:
        masks = importance_masks(graph, importance, amount, mode=mode, scope="global")
        gone = num_removed(amount, total)
        assert sum(removed(masks).values()) == min(gone, total - len(masks))
        assert all(mask[scores[name].argmax()] for name, mask in masks.items())
        weakest = min(
            (np.delete(score, score.argmax())[np.delete(masks[name], score.argmax())].min(initial=np.inf))
            for name, score in scores.items()
        )
        strongest = max(score[~masks[name]].max(initial=-np.inf) for name, score in scores.items())
        assert strongest <= weakest


def test_constrained_counts_are_exact_at_every_amount(graph):
    """Locally of every block, globally of all that may lose channels; the inputs and outputs may not."""
    sizes = [block.size for block in graph.blocks if not block.pinned and block.removable]
    for amount in AMOUNTS:
        for scope, number in (
            ("local", sum(num_removed(amount, size) for size in sizes)),
            ("global", min(num_removed(amount, sum(sizes)), sum(sizes) - len(sizes))),
        ):
            masks = importance_masks(graph, "lamp", amount, mode="constrained", scope=scope)
            stream, head = masks["convs.0.weight"], masks["head.weight"]
            assert all(np.array_equal(stream, masks[f"convs.{i}.weight"]) for i in (1, 2))
            assert np.array_equal(masks["join.weight"][7:], stream)
            assert (~masks["join.weight"]).sum() + (~head).sum() == number
            assert min(stream.sum(), masks["join.weight"][:7].sum(), head.sum()) >= 1


def test_ties_go_by_layer_and_index_and_every_layer_keeps_one(graph):
    register = Importance("ones", lambda evidence, weight: np.ones(len(evidence.slices(weight))), "test")
    for mode in ("input", "output"):
        masks = importance_masks(graph, register, 0.5, mode=mode, scope="global")
        total = sum(map(len, masks.values()))
        left = num_removed(0.5, total)
        for mask in masks.values():
            gone = min(left, len(mask) - 1)
            assert mask.tolist() == [False] * gone + [True] * (len(mask) - gone)
            left -= gone


@pytest.mark.parametrize("network", networks.ALL)
def test_the_special_cases_are_special_cases(network):
    graph = trace(*networks.make(network))
    outputs = l2_output_masks(graph, 0.5)
    for amount in (0.3, 0.8):
        for one, other in (
            (importance_masks(graph, "l2", amount), l2_masks(graph, amount)),
            (
                importance_masks(graph, "l2", amount, output_masks=outputs),
                l2_masks(graph, amount, output_masks=outputs),
            ),
            (importance_masks(graph, amount=amount, mode="output"), l2_output_masks(graph, amount)),
            (importance_masks(graph, amount=amount, mode="constrained"), constrained_masks(graph, amount)),
        ):
            assert list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


def test_shared_channels_have_the_sum_of_their_consumers_scores(graph):
    scores = importance_scores(graph, "l1")
    stream = sum(scores[f"convs.{i}.weight"] for i in range(3)) + scores["join.weight"][7:] + scores["side.weight"]
    found = importance_masks(graph, "l1", 0.5, mode="constrained")
    expected = np.ones(12, dtype=bool)
    expected[np.argsort(stream, kind="stable")[:6]] = False
    assert np.array_equal(found["convs.1.weight"], expected) and np.array_equal(found["side.weight"], expected)


def test_global_thresholds_of_lamp_leave_no_layer_empty_and_differ_from_local_ones(graph):
    found = removed(importance_masks(graph, "lamp", 0.6, scope="global"))
    local = removed(importance_masks(graph, "lamp", 0.6))
    assert abs(sum(found.values()) - sum(local.values())) < len(found) and found != local


def test_layers_may_have_amounts_of_their_own(graph):
    amounts = {"convs.*": 0.25, "convs.1": "0.75", "side.weight": 0}
    expected = {"convs.0.weight": 3, "convs.1.weight": 9, "convs.2.weight": 3, "side.weight": 0}
    local = removed(importance_masks(graph, "l1", 0.5, amounts=amounts))
    assert local == expected | {"join.weight": 9}
    pooled = importance_masks(graph, "l1", 0.5, amounts={"convs.*": 0.25}, scope="global", ignore=["convs.1"])
    assert removed(pooled)["convs.0.weight"] == 3 == removed(pooled)["convs.2.weight"]
    assert removed(pooled)["side.weight"] + removed(pooled)["join.weight"] == num_removed(0.5, 12 + 19)
    for scope in ("local", "global"):
        shared = importance_masks(graph, "l1", 0.5, amounts=amounts | {"side": 0.5}, mode="constrained", scope=scope)
        assert removed(shared)["convs.1.weight"] == 3
        others = removed(shared)["join.weight"] - 3 + removed(shared)["head.weight"]
        assert others == num_removed(0.5, 7) + num_removed(0.5, 10) == num_removed(0.5, 7 + 10)


def test_counts_are_rounded_up_on_request(graph):
    for mode in ("input", "output", "constrained"):
        for scope in ("local", "global"):
            masks = importance_masks(graph, "fpgm", 0.7, mode=mode, scope=scope, round_to=4, min_channels=2)
            for name, mask in masks.items():
                if name not in ("stem.weight", "join.weight") or mode == "output":
                    assert mask.sum() % 4 == 0 or mask.all()


def test_users_add_their_own(graph):
    own = Importance("largest-bias", lambda evidence, weight: -evidence.slices(weight).sum(1).numpy(), "this test")
    try:
        assert register_importance(own) is own is register_importance(own)
        masks = importance_masks(graph, "largest-bias", 0.5)
        sums = graph.module.get_parameter("side.weight").detach().double().sum((0, 2, 3)).numpy()
        assert set(np.flatnonzero(~masks["side.weight"])) == set(np.argsort(-sums, kind="stable")[:6])
        with pytest.raises(MaskError, match="there is an importance 'largest-bias' already"):
            register_importance(Importance("largest-bias", IMPORTANCES["l1"].function, "another"))
    finally:
        IMPORTANCES.pop("largest-bias", None)
    mean = Importance("mean", lambda e, w: e.statistics[w], "this test", statistic=lambda maps: maps.flatten(2).mean(2))
    x = torch.randn(3, 3, 8, 8)
    found = importance_scores(graph, mean, data=x)["side.weight"]
    stem = graph.module.get_submodule("bn")(graph.module.get_submodule("stem")(x)).relu()
    assert found == pytest.approx(stem.mean((0, 2, 3)).detach().numpy(), rel=1e-5)


BAD_SHAPE = Importance("short", lambda evidence, weight: np.ones(1), "this test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"importance": "lanp"}, "there is no importance 'lanp'; did you mean lamp"),
        ({"importance": "zzz"}, "choose from l1, l2, lamp"),
        ({"scope": "all"}, "there is no scope 'all'"),
        ({"mode": "both"}, "there is no mode 'both' for importances; choose input, constrained or output"),
        ({"amount": 1}, "outside"),
        ({"amounts": {"convs.0": 2}}, "outside"),
        ({"amounts": {"nowhere": 0.5}}, "matches no convolution"),
        ({"amounts": {"head": 0.5}}, "an amount is given for 'head', which matches no layer that is masked"),
        ({"amounts": {"stem": 0.5}, "mode": "constrained"}, "matches no layer that is masked"),
        ({"ignore": ["nowhere"]}, "matches no convolution"),
        ({"round_to": 0}, "whole number of at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"mode": "output", "output_masks": {"stem": np.ones(12)}}, "output_masks= goes with mode 'input'"),
        ({"importance": BAD_SHAPE}, r"scores of shape \(1,\); it must return one number for each of the 12"),
        ({"importance": "hrank"}, "the importance hrank needs data"),
        ({"importance": "hrank", "data": []}, "the data has no images"),
        ({"importance": "hrank", "data": [()]}, "has 0 parts; the network takes 1 tensors"),
        ({"importance": "hrank", "data": torch.zeros(2, 4, 8, 8)}, "rejects a batch of the data"),
        ({"importance": "taylor", "data": torch.zeros(2, 3, 8, 8)}, "the importance taylor needs labels"),
        ({"importance": "taylor", "data": [(torch.zeros(2, 3, 8, 8), torch.zeros(3).long())]}, "rejects a batch"),
    ],
)
def test_senseless_requests_are_refused_in_one_sentence(graph, options, message):
    with pytest.raises(MaskError, match=message) as caught:
        importance_masks(graph, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("importance", ["hrank", "taylor"])
def test_data_driven_importances_leave_the_model_as_it_is(normalised, importance, training):
    """Statistics, gradients, what requires them, and modes, of a model that was put into training mode, too."""
    model, inputs = normalised
    graph = trace(model, inputs)
    expected = importance_masks(graph, importance, data=labelled())
    model.train(training)
    model.stem.weight.requires_grad_(False)
    model.side.weight.requires_grad_(False)
    model.join.weight.grad = torch.ones_like(model.join.weight)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    found = importance_masks(graph, importance, data=iter(labelled()))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(module.training == training for module in model.modules())
    assert (model.join.weight.grad == 1).all() and model.convs[0].weight.grad is None


@pytest.mark.parametrize("network", [networks.Residual, networks.InPlace, networks.Two])
def test_data_driven_importances_run_networks_of_all_sorts(network):
    """In-place arithmetic, which torch cannot always differentiate, and several inputs and outputs."""
    model, inputs = networks.make(network)
    graph = trace(model, inputs)
    data = [inputs, inputs]
    for mode in ("input", "output", "constrained"):
        assert importance_masks(graph, "hrank", 0.5, mode=mode, data=data)

        def loss(outputs, labels):
            return (outputs[0] if isinstance(outputs, tuple) else outputs).square().mean()

        if network is not networks.InPlace:
            assert importance_masks(graph, "taylor", 0.5, mode=mode, data=data, loss=loss)


def test_data_driven_importances_work_in_inference_mode(graph):
    for importance in ("hrank", "taylor"):
        expected = importance_masks(graph, importance, data=labelled())
        with torch.inference_mode():
            found = importance_masks(graph, importance, data=labelled())
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def check(model, inputs, importance, mode, scope, data, ignore=()):
    graph = trace(model, inputs)
    masks = importance_masks(graph, importance, 0.5, mode=mode, scope=scope, data=data, ignore=ignore)
    outputs = masks if mode == "output" else {}
    kept = masks if mode == "constrained" else effective_masks(graph, {} if mode == "output" else masks).masks
    problems = extract(graph, kept, output_masks=outputs)
    results = {name: solve(problem, solver="greedy") for name, problem in problems.items()}
    exported = export(model, inputs, plan(problems, kept, results, output_masks=outputs), graph=graph)
    assert exported.verification.passed and exported.verification.relative_error <= 1e-9


@pytest.mark.parametrize("mode", ["input", "output", "constrained"])
@pytest.mark.parametrize("importance", METHODS)
def test_exports_of_every_importance_are_exact(normalised, importance, mode):
    for scope in ("local", "global"):
        check(*normalised, importance, mode, scope, labelled())


@pytest.mark.parametrize("importance", ["lamp", "hrank", "random"])
@pytest.mark.parametrize("network", networks.ALL)
def test_global_thresholds_are_exact_on_every_kind_of_network(network, importance):
    """Flattened, grouped, sliced, shared and pinned channels."""
    model, inputs = networks.make(network)
    for mode in ("input", "output", "constrained"):
        check(model, inputs, importance, mode, "global", [inputs])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["input", "output", "constrained"])
@pytest.mark.parametrize("importance", METHODS)
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "mobilenet_v2"])
def test_exports_of_torchvision_networks_are_exact(name, importance, mode):
    model, x = load_model(ModelReference(name)), torch.zeros(1, 3, 64, 64)
    ignore = ()
    if (name, importance, mode) == ("densenet121", "bn-scale", "output"):
        # What DenseNet concatenates has no BatchNorm of its own.
        with pytest.raises(MaskError, match=r"denselayer1\.conv2 computes comes from a BatchNorm"):
            importance_masks(trace(model, x), importance, mode=mode)
        ignore = ("*.denselayer*.conv2", "*.transition*.conv")
    check(model, x, importance, mode, "local", labelled(64), ignore)
