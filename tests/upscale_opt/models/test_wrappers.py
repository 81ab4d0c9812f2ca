"""Tests of wrapped networks and their checkpoints: what is inside is pruned, and names lose the prefixes."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from networks import Residual
from torch import nn

from upscale_opt import (
    MaskError,
    ModelError,
    ModelReference,
    PlanError,
    effective_masks,
    export,
    l2_masks,
    load,
    load_model,
    masked_copy,
    trace,
    unwrapped,
    verify,
)
from upscale_opt.errors import LearningError
from upscale_opt.learning.checkpoints import read_checkpoint
from upscale_opt.learning.datasets import Dataset
from upscale_opt.learning.finetuning import finetune
from upscale_opt.learning.loop import Method, fit
from upscale_opt.learning.recipes import Recipe
from upscale_opt.learning.targets import Target
from upscale_opt.models.loading import load_weights
from upscale_opt.models.wrappers import without_prefixes

X = torch.zeros(1, 3, 8, 8)
WRAPPERS = {
    "parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "averaged": torch.optim.swa_utils.AveragedModel,
    "both": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


def network(seed=0):
    torch.manual_seed(seed)
    return Residual().eval()


def with_wrapped_parts(wrap):
    """A network of which a part, and a part of a part, is wrapped: as in PyTorch's own ImageNet example."""
    model = network()
    model.blocks[1] = wrap(model.blocks[1])
    model.head = wrap(model.head)
    return model


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_network_is_the_network_inside(wrap):
    plain = network()
    wrapped = wrap(plain).eval()
    inside = unwrapped(wrapped)
    assert type(inside) is Residual and inside.state_dict().keys() == plain.state_dict().keys()
    graph = trace(wrapped, X)
    assert list(graph.consumers) == list(trace(plain, X).consumers)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    exported = export(wrapped, X, masks=masks, baseline=True)
    assert verify(wrapped, exported, X).passed
    assert set(exported.module.state_dict()) <= set(plain.state_dict())


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrapped_parts_are_unwrapped_in_a_new_module_that_shares_the_tensors(wrap):
    model = with_wrapped_parts(wrap)
    children = dict(model.named_modules())
    inside = unwrapped(model)
    assert inside is not model and dict(model.named_modules()) == children
    assert {id(own) for own in inside.parameters()} == {id(own) for own in model.parameters()}
    assert set(inside.state_dict()) == set(network().state_dict())
    assert inside.blocks[0] is model.blocks[0]
    graph = trace(model.eval(), X)
    assert export(model, X, masks=l2_masks(graph, 0.5), baseline=True).verification.passed
    assert unwrapped(inside) is inside


def test_masks_and_copies_know_names_with_and_without_prefixes():
    wrapped = nn.DataParallel(network())
    graph = trace(wrapped, X)
    by_prefix = effective_masks(graph, {"module.down": [0, 1]}).masks
    assert np.array_equal(by_prefix["down.weight"], effective_masks(graph, {"down": [0, 1]}).masks["down.weight"])
    masked = masked_copy(wrapped, {"module.down.weight": [0, 1]})
    assert not masked.down.weight[:, 2:].any() and masked.down.weight[:, :2].any()


def test_what_cannot_be_unwrapped_says_what_to_give():
    model = network()
    for odd in (torch.jit.script(model), torch.jit.trace(model, X)):
        with pytest.raises(ModelError, match=r"give the original nn\.Module"):
            trace(odd, X)
    program = torch.export.export(model, (X,)).module()
    program.training = False
    with pytest.raises(
        ModelError, match=r"torch\.export, which no longer has layers; give the ExportedProgram itself, or the original"
    ):
        trace(program, X)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module.module."])
@pytest.mark.parametrize("pruned", [False, True])
def test_checkpoints_of_wrapped_networks_are_loaded(prefix, pruned):
    model = network()
    graph = trace(model, X)
    exported = export(model, X, masks=l2_masks(graph, 0.5), baseline=True, graph=graph)
    state = (exported.module if pruned else model).state_dict()
    again = load(exported.plan, network(1), {prefix + name: tensor for name, tensor in state.items()}, X)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(again.module(x), exported.module(x))


def test_prefixes_of_parts_go_and_those_of_the_network_stay():
    state = network().state_dict()
    parts = {name.replace("blocks.1.", "blocks.1.module.").replace("head.", "head._orig_mod."): 0 for name in state}
    assert without_prefixes(parts, state).keys() == state.keys()
    assert without_prefixes({"n_averaged": 0, **{f"module.{name}": 1 for name in state}}, state).keys() == state.keys()
    # A network may call a part so itself, and a checkpoint of which only some names have a prefix is none of a wrapper.
    assert without_prefixes({"module.a": 1, "module.b": 2}, ["module.a", "module.b"]) == {"module.a": 1, "module.b": 2}
    assert without_prefixes({"module.module.a": 1}, ["module.a"]) == {"module.a": 1}
    assert without_prefixes({"module.a": 1, "b": 2}, ["a", "b"]) == {"module.a": 1, "b": 2}


def test_a_checkpoint_with_some_prefixes_is_refused_by_name():
    model = network()
    exported = export(model, X, masks=l2_masks(trace(model, X), 0.5), baseline=True)
    state = {f"module.{name}" if name.startswith("b") else name: own for name, own in model.state_dict().items()}
    with pytest.raises(PlanError, match=r"has 'blocks.0.conv1.weight' of shape .* missing"):
        load(exported.plan, network(), state, X)


def test_weights_of_a_wrapped_network_are_loaded_by_the_command_line(tmp_path):
    model = network()
    torch.save({f"module._orig_mod.{name}": own for name, own in model.state_dict().items()}, tmp_path / "a.pt")
    other = network(1)
    load_weights(other, tmp_path / "a.pt")
    load_weights(nn.DataParallel(third := network(2)), tmp_path / "a.pt")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]) and torch.equal(tensor, third.state_dict()[name])


def test_a_factory_may_wrap_its_model(tmp_path):
    (tmp_path / "wrapped.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.DataParallel(nn.Conv2d(3, 4, 1))\n"
    )
    assert type(load_model(ModelReference(f"{tmp_path}/wrapped.py:make"))) is nn.Conv2d


class Classes(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 6, 1), nn.Linear(6, 3)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def images(number=8):
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(1, 5, 5, generator=generator), i % 3) for i in range(number)]
    return Dataset("noise", pairs, pairs, 3, (1, 5, 5))


def test_a_wrapped_network_is_trained_and_its_checkpoint_goes_on_without_the_wrapper(tmp_path):
    """Half a training in a wrapper and the other half without is the whole training."""
    torch.manual_seed(0)
    first = Classes().eval()
    second, recipe = copy.deepcopy(first), Recipe(epochs=2, batch_size=4)
    fit(first, images(), [recipe])

    class Interrupt(Exception):
        pass

    class Stops(Method):
        def after_epoch(self, training):
            if training.epoch == 1:
                raise Interrupt

    wrapped = nn.DataParallel(second)
    with pytest.raises(Interrupt):
        fit(wrapped, images(), [recipe], method=Stops(), checkpoint=tmp_path / "c.pt")
    written = read_checkpoint(tmp_path / "c.pt")
    assert written.model.keys() == first.state_dict().keys()
    prefixed = replace(written, model={f"module.{name}": own for name, own in written.model.items()})
    for checkpoint in (written, prefixed):  # as earlier versions wrote them
        for third in (Classes().eval(), nn.DataParallel(Classes().eval())):
            checkpoint.write(tmp_path / "c.pt")
            fit(third, images(), [recipe], checkpoint=tmp_path / "c.pt")
            for a, b in zip(first.parameters(), third.parameters(), strict=True):
                assert torch.equal(a, b)


def test_methods_that_learn_masks_take_what_is_inside_and_refuse_several_processes(tmp_path):
    model = Classes().eval()
    learned = finetune(nn.DataParallel(model), images(), Recipe(epochs=1, batch_size=4), Target(0.5))
    assert learned.model is model and set(learned.masks) == {"b.weight"}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/sync", rank=0, world_size=1)
    try:
        several = nn.parallel.DistributedDataParallel(model)
        assert unwrapped(several) is model
        with pytest.raises(LearningError, match=r"DistributedDataParallel.*give model\.module"):
            finetune(several, images(), Recipe(epochs=1, batch_size=4), Target(0.5))
    finally:
        dist.destroy_process_group()


def test_an_unknown_name_is_not_found_by_its_prefix():
    with pytest.raises(MaskError, match=r"'module\.zzz' is no convolution"):
        effective_masks(trace(network(), X), {"module.zzz": [0]})
