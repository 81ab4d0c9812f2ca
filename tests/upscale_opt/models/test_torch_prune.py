"""Tests of models pruned by torch.nn.utils.prune: what their masks say, and copies made permanent."""

import networks
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from upscale_opt import effective_masks, masks_from_pruning, normalise_masks, permanently_pruned, trace
from upscale_opt.models.loading import load_weights
from upscale_opt.models.torch_prune import is_pruned


def pruned_residual():
    model, inputs = networks.make(networks.Residual)
    prune.ln_structured(model.down, "weight", amount=0.5, n=2, dim=1)
    prune.random_structured(model.head, "weight", amount=3, dim=0)
    prune.ln_structured(model.blocks[0].conv1, "weight", amount=4, n=1, dim=1)
    prune.random_structured(model.blocks[0].conv1, "weight", amount=5, dim=0)
    prune.random_unstructured(model.blocks[1].conv1, "weight", amount=0.3)
    prune.random_unstructured(model.blocks[1].bn1, "bias", amount=0.5)
    return model, inputs


def test_masks_are_the_columns_and_rows_that_are_zero_as_a_whole():
    """Several methods on one tensor count together; scattered zeros do not count."""
    model, _ = pruned_residual()
    found = masks_from_pruning(model)
    assert list(found.columns) == list(found.rows)
    assert set(found.columns) == {f"{name}.weight" for name in ("down", "head", "blocks.0.conv1", "blocks.1.conv1")}
    assert [int((~found.columns[f"{name}.weight"]).sum()) for name in ("down", "head", "blocks.0.conv1")] == [8, 0, 4]
    assert [int((~found.rows[f"{name}.weight"]).sum()) for name in ("down", "head", "blocks.0.conv1")] == [0, 3, 5]
    assert found.columns["blocks.1.conv1.weight"].all() and found.rows["blocks.1.conv1.weight"].all()
    dropped = torch.from_numpy(~found.columns["down.weight"])
    assert (model.down.weight_mask[:, dropped] == 0).all() and (model.down.weight_mask[:, ~dropped] == 1).all()


def test_transposed_and_grouped_convolutions_have_their_own_axes():
    model = nn.ModuleDict(
        {
            "transposed": nn.ConvTranspose2d(6, 4, 2, groups=2),
            "grouped": nn.Conv2d(8, 4, 1, groups=2),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
        }
    )
    for module in model.values():
        prune.identity(module, "weight")
    model["transposed"].weight_mask[2] = 0
    model["transposed"].weight_mask[3:, 1] = 0
    model["grouped"].weight_mask[:, 3] = 0
    model["depthwise"].weight_mask[1] = 0
    found = masks_from_pruning(model)
    assert set(found.columns) == {"transposed.weight", "grouped.weight"}
    assert found.columns["transposed.weight"].tolist() == [True, True, False, True, True, True]
    assert found.rows["transposed.weight"].tolist() == [True, True, True, False]
    assert found.columns["grouped.weight"].tolist() == [True, True, True, False]
    assert found.rows["depthwise.weight"].tolist() == [True, False, True, True]


def test_a_permanent_copy_computes_the_same_and_is_traced_without_pins():
    model, inputs = pruned_residual()
    expected = model(*inputs)
    names = [name for name, _ in model.named_parameters()]
    permanent = permanently_pruned(model)
    assert torch.equal(permanent(*inputs), expected)
    assert is_pruned(model) and not is_pruned(permanent)
    assert [name for name, _ in model.named_parameters()] == names
    assert set(permanent.state_dict()) == set(networks.make(networks.Residual)[0].state_dict())
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in permanent.parameters())
    graph = trace(permanent, inputs)
    assert graph.unsupported == () and trace(model, inputs).unsupported


def test_masks_and_zeros_of_the_permanent_copy_say_the_same():
    model, inputs = pruned_residual()
    graph = trace(permanently_pruned(model), inputs)
    found = effective_masks(graph).masks
    given = normalise_masks(graph, masks_from_pruning(model).columns)
    assert all(np.array_equal(found[name], mask) for name, mask in given.items())
    assert found["down.weight"].sum() == 8


def test_a_tensor_that_modules_share_changes_only_where_it_is_pruned():
    first, second, third = (nn.Linear(4, 4) for _ in range(3))
    second.weight = third.weight = first.weight
    model = nn.Sequential(first, second, third)
    for module in (first, second):
        prune.custom_from_mask(module, "weight", torch.eye(4))
    permanent = permanently_pruned(model)
    assert permanent[0].weight is permanent[1].weight
    assert (permanent[0].weight == torch.eye(4) * third.weight).all()
    assert torch.equal(permanent[2].weight, third.weight)


@pytest.mark.parametrize("called", [False, True])
def test_copies_of_trained_pruned_models_are_possible(called):
    """The computed weight hangs on the graph of the last call, which torch refuses to copy."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_structured(model[1], "weight_ih_l0", 0.5, dim=1)
    x = torch.randn(2, 1, 4)
    expected = model(x)[0]
    if called:
        expected.sum().backward()
    assert torch.equal(permanently_pruned(model)(x)[0], expected)


def test_a_model_without_pruning_is_copied_as_it_is():
    model, inputs = networks.make(networks.Residual)
    copied = permanently_pruned(model)
    assert copied is not model and torch.equal(copied(*inputs), model(*inputs))
    assert masks_from_pruning(model).columns == {} == masks_from_pruning(model).rows


def test_checkpoints_of_pruned_models_are_loaded_into_plain_and_pruned_ones(tmp_path):
    model, inputs = pruned_residual()
    torch.save(model.state_dict(), tmp_path / "pruned.pt")
    plain, _ = networks.make(networks.Residual, seed=1)
    load_weights(plain, tmp_path / "pruned.pt")
    other, _ = pruned_residual()
    with torch.no_grad():
        other.down.weight_orig.zero_()
    load_weights(other, tmp_path / "pruned.pt")
    expected = model(*inputs)
    assert torch.equal(plain(*inputs), expected) and torch.equal(other(*inputs), expected)
    assert not is_pruned(plain) and is_pruned(other)
