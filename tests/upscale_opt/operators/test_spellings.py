"""Every spelling of an operator has the operator's rule: functions, methods, in place or not, ATen."""

import operator

import pytest
import torch
from networks import Between
from torch.nn import functional

from upscale_opt import trace
from upscale_opt.operators.spellings import aten_name, functions_of, methods_of
from upscale_opt.operators.table import FUNCTION_RULES, METHOD_RULES

SPELLINGS = {
    "torch.clip": lambda x: torch.clip(x, 0, 6),
    ".clip": lambda x: x.clip(0, 6),
    ".clamp_min": lambda x: x.clamp_min(0),
    "torch.multiply": lambda x: torch.multiply(x, 2.0),
    "torch.subtract": lambda x: torch.subtract(x, 1.0),
    "torch.divide": lambda x: torch.divide(x, 3.0),
    "torch.rsub": lambda x: torch.rsub(x, 1.0),
    "relu_": lambda x: functional.relu_(x),
    "leaky_relu_": lambda x: functional.leaky_relu_(x, 0.1),
    "elu_": lambda x: functional.elu_(x),
    "expit": lambda x: torch.special.expit(x),
    ".exp_": lambda x: x.exp_(),
    ".square_": lambda x: x.square_(),
    ".true_divide": lambda x: x.true_divide(2),
    "log1p": lambda x: torch.log1p(x.abs()),
    "nan_to_num": torch.nan_to_num,
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "ones_like": lambda x: x * torch.ones_like(x),
    "moveaxis": lambda x: torch.moveaxis(torch.moveaxis(x, 1, -1), -1, 1),
    "movedim of two": lambda x: x.movedim((1, 2), (3, 1)).movedim((3, 1), (1, 2)),
    "hstack": lambda x: torch.hstack([x[:, :4], x[:, 4:]]),
    "flip of space": lambda x: torch.flip(x, [-1]),
    "roll of space": lambda x: torch.roll(x, (1, 2), (2, 3)),
    "roll of channels": lambda x: x.roll(3, 1),
    "index_select of space": lambda x: torch.index_select(x, 3, torch.arange(5)),
    "cumsum of space": lambda x: x.cumsum(-1),
    "sort of space": lambda x: x.sort(dim=2)[0],
    ".type": lambda x: x.type(torch.float32),
    ".to": lambda x: x.to(torch.float32),
    ".type_as": lambda x: x.type_as(x),
    ".view_as": lambda x: x.view_as(x),
    ".mT": lambda x: x.mT,
    ".data": lambda x: x.data + x,
    "select": lambda x: x.select(3, 0)[..., None],
    "root mean square": lambda x: x.to(torch.float32) * torch.rsqrt(x.float().pow(2).mean(1, keepdim=True) + 1e-6),
}
NEEDED = ("root mean square",)


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_of_known_operators_leave_channels_free(name):
    graph = trace(Between(SPELLINGS[name]).eval(), torch.zeros(2, 3, 6, 6))
    own = [block for block in graph.blocks if block.name.startswith("a")]
    assert own and not any(block.pinned for block in own) and not graph.unsupported
    assert all(block.removable == (name not in NEEDED) for block in own)


def test_spellings_are_derived_from_torch():
    assert {torch.clamp, torch.clip, torch.clamp_, torch.clip_} <= set(functions_of("clamp"))
    assert {torch.mul, torch.multiply, operator.mul, operator.imul} <= set(functions_of("mul"))
    assert {"add_", "__radd__"} <= set(methods_of("add"))
    assert aten_name(torch.ops.aten.clamp_.default) == "clamp_" and aten_name(torch.relu) is None
    # The layout of a tensor whose shape changes in place would be wrong afterwards.
    assert "transpose_" not in METHOD_RULES and "squeeze_" not in METHOD_RULES
    assert FUNCTION_RULES[operator.iadd] is FUNCTION_RULES[torch.add] is METHOD_RULES["add_"]
