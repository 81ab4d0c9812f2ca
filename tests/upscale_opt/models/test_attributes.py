"""Tensors of modules by name, and copies that hold others."""

import torch
from torch import nn

from upscale_opt.models.attributes import copy_with


class Tied(nn.Module):
    """Two layers with one weight, and a buffer that no state_dict has."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.register_buffer("scale", torch.ones(3), persistent=False)


def test_a_copy_holds_what_it_is_given_and_the_module_is_unchanged() -> None:
    module = Tied()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    called: list[str] = []

    def tensor_of(name: str, tensor: torch.Tensor) -> torch.Tensor:
        called.append(name)
        return tensor.detach() + 1

    copied = copy_with(module, tensor_of)
    assert called == ["first.weight", "first.bias", "second.bias", "scale"]
    for name, tensor in before.items():
        assert torch.equal(module.state_dict()[name], tensor)
        assert torch.equal(copied.state_dict()[name], tensor + 1)
    assert torch.equal(copied.scale, torch.full((3,), 2.0))


def test_what_modules_share_they_share_in_the_copy() -> None:
    copied = copy_with(Tied(), lambda _, tensor: tensor.detach().clone())
    assert copied.first.weight is copied.second.weight
    assert isinstance(copied.first.weight, nn.Parameter)
    assert copied.first.weight.requires_grad and not copied.first.bias.requires_grad
