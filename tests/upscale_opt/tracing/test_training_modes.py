"""Tests of exports in training and eval mode: what asks ``self.training`` is switched, in every copy."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from upscale_opt import export, trace
from upscale_opt.models.loading import import_torchvision
from upscale_opt.tracing.training_modes import ModeSwitch, training_mode_of

X = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))


def reloaded(module):
    torch.save(module, (buffer := io.BytesIO()))
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


HOW = {
    "itself": lambda module: module,
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "pickle twice": lambda module: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(module.train())).eval())),
    "saved": reloaded,
    "traced by torch.fx": torch.fx.symbolic_trace,
    "exported again": lambda module: export(module.eval(), X, masks={}, baseline=True, verify=False).module,
    "in another network": lambda module: nn.Sequential(module),
}


class Normalised(nn.Module):
    """A batch norm of one's own."""

    def __init__(self, frozen=False):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.frozen = frozen

    def forward(self, x):
        training = False if self.frozen else self.training
        return functional.batch_norm(x, self.mean, self.var, None, None, training, 0.5)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = 0.4

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x = functional.scaled_dot_product_attention(x, x, x, dropout_p=self.rate if self.training else 0.0)
        return x.transpose(1, 2).unflatten(2, (4, 4))


class Asking(nn.Module):
    """A function that is told whether the network is training."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x, self.training)


RANDOM = {
    "dropout": lambda: Asking(lambda x, t: functional.dropout(x, 0.5, t)),
    "dropout, by name": lambda: Asking(lambda x, t: functional.dropout(x, training=t, p=0.3, inplace=False)),
    "dropout2d": lambda: Asking(lambda x, t: functional.dropout2d(x, training=t)),
    "alpha_dropout": lambda: Asking(lambda x, t: functional.alpha_dropout(x, 0.2, t)),
    "feature_alpha_dropout": lambda: Asking(lambda x, t: functional.feature_alpha_dropout(x, 0.2, t)),
    "torch.dropout": lambda: Asking(lambda x, t: torch.dropout(x, 0.5, t)),
    "rate": lambda: Asking(lambda x, t: functional.dropout(x, 0.5 if t else 0.0, True)),
    "rrelu": lambda: Asking(lambda x, t: functional.rrelu(x, training=t)),
    "attention": Attention,
    "stochastic_depth": lambda: import_torchvision().ops.StochasticDepth(0.5, "row"),
}


def network(layer):
    torch.manual_seed(0)
    model = nn.Sequential()
    model.stem, model.layer, model.head = nn.Conv2d(8, 8, 1), layer, nn.Conv2d(8, 8, 1)
    return model.eval()


def exported(layer):
    return export(network(layer), X, masks={}, baseline=True).module


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("case", RANDOM)
def test_what_is_random_in_training_is_so_in_every_copy(case, how):
    for mode in (True, False):
        module = HOW[how](exported(RANDOM[case]()).train(mode))
        for training in (not mode, mode, not mode):
            module.train(training)
            differ = any(not torch.equal(module(X), module(X)) for _ in range(4))
            assert differ == training


@pytest.mark.parametrize("how", HOW)
def test_batch_norms_of_ones_own_follow_and_frozen_ones_do_not(how):
    for frozen in (False, True):
        layer = Normalised(frozen)
        original = network(layer)
        module = HOW[how](exported(Normalised(frozen)).train())
        for mode in (True, False, True):
            assert torch.allclose(module.train(mode)(X), original.train(mode)(X), atol=1e-6)
        means = [tensor for name, tensor in module.state_dict().items() if name.endswith("layer.mean")]
        assert len(means) == 1 and torch.allclose(means[0], layer.mean, atol=1e-6)
        assert bool(means[0].any()) != frozen


def test_instance_norm_uses_its_statistics_in_eval_mode_only():
    class Instances(Normalised):
        def forward(self, x):
            return functional.instance_norm(x, self.mean, self.var, use_input_stats=self.training)

    original, module = network(Instances()), exported(Instances())
    for mode in (True, False):
        assert torch.allclose(module.train(mode)(X), original.train(mode)(X), atol=1e-6)
    assert not torch.allclose(module.train()(X), module.eval()(X))


def test_what_is_on_or_off_for_good_stays_so():
    """``training=False`` written out, and dropout that is always on."""
    module = exported(Asking(lambda x, t: functional.dropout(x, 0.5, False))).train()
    assert torch.equal(module(X), module(X)) and not any(isinstance(m, ModeSwitch) for m in module.modules())
    module = export(network(Asking(lambda x, t: functional.dropout(x, 0.5, True))), X, masks={}, baseline=True).module
    assert not torch.equal(module(X), module(X))


def test_parts_of_an_export_are_switched_by_themselves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 8, 1), RANDOM["dropout"](), nn.Conv2d(8, 8, 1), RANDOM["attention"]()).eval()
    model.add_module("again", model[1])
    module = export(model, X, masks={}, baseline=True).module
    for one in (HOW["itself"](module), HOW["pickle"](module)):
        one.eval().get_submodule("3").train()
        assert not torch.equal(one(X), one(X))
        one.train().get_submodule("3").eval()
        assert not torch.equal(one(X), one(X))
        one.get_submodule("1").eval()
        assert torch.equal(one(X), one(X))


class Branching(nn.Module):
    def forward(self, x):
        if self.training:
            x = x * torch.rand_like(x[:, :1, :1, :1])
        return functional.dropout(x, 0.5, self.training)


def test_what_only_runs_in_training_is_named():
    found = export(network(Branching()), X, masks={}, baseline=True)
    assert found.training_only == ("layer",) and found.training_unknown is None
    assert "left out, what only runs in training in layer" in str(found)
    assert not torch.equal(found.module.train()(X), found.module(X)), "the dropout behind it is switched all the same"
    assert export(network(nn.ReLU()), X, masks={}, baseline=True).training_only == ()


class Refusing(nn.Sequential):
    def forward(self, x):
        if self.training:
            raise ValueError("no training here")
        return functional.dropout(super().forward(x), 0.5, self.training)


def test_networks_without_a_training_mode_say_so():
    """The whole network, or a part of it, which is a single operator in the trace then."""
    found = export(Refusing(nn.Conv2d(8, 8, 1)).eval(), X, masks={}, baseline=True)
    assert found.training_unknown == "no training here" and "trains as in eval mode" in str(found)
    found = export(network(Refusing(nn.Conv2d(8, 8, 1))), X, masks={}, baseline=True)
    assert found.training_only == ("layer",) and found.training_unknown is None


class Ambiguous(nn.Module):
    def forward(self, x):
        x = functional.dropout(x, 0.1, self.training)
        return functional.dropout(x, 0.9, True) if self.training else x


def test_arguments_that_cannot_be_told_apart_are_not_guessed():
    found = export(network(Ambiguous()), X, masks={}, baseline=True)
    assert found.training_only == ("layer",)
    assert not any(isinstance(m, ModeSwitch) for m in found.module.modules())


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.calls = []

    def forward(self, x):
        if self.training:
            self.steps += 1
            self.calls.append(1)
        return x


def test_the_second_trace_leaves_the_model_alone_and_is_made_once(monkeypatch):
    model = network(Buffered())
    graph = trace(model, X)
    first = training_mode_of(model, graph)
    assert model.layer.steps == 0 and model.layer.calls == [] and not any(m.training for m in model.modules())
    assert training_mode_of(model, graph) is first
