"""Tests of outputs: tensors are found in whatever a network returns, and an output without any is an error."""

import operator
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from upscale_opt import VerificationError, export, verify
from upscale_opt.models.outputs import NO_TENSOR, relative_error, tensors

A, B = torch.ones(2), torch.zeros(3)
Pair = namedtuple("Pair", "first second")


@dataclass
class Output:
    logits: torch.Tensor
    states: object = None


@dataclass(slots=True)
class Slotted:
    b: torch.Tensor
    a: torch.Tensor


class Base:
    __slots__ = ("a",)


class Derived(Base):
    __slots__ = "b"


class ModelOutput(OrderedDict):
    """HuggingFace's: a mapping whose attributes are its items."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__.update(items)


class Circular:
    def __init__(self):
        self.a, self.me = A, self


def derived():
    value = Derived()
    value.a, value.b = A, B
    return value


CASES = {
    "tensor": (lambda: A, [A]),
    "nested": (lambda: {"b": [B, (A, None)], "a": A}, [B, A, A]),
    "named tuple": (lambda: Pair(B, Pair(A, 3)), [B, A]),
    "dataclass": (lambda: Output(B, [Output(A)]), [B, A]),
    "slots": (lambda: Slotted(B, A), [B, A]),
    "inherited slots": (derived, [A, B]),
    "model output": (lambda: ModelOutput(loss=B, logits=A), [B, A]),
    "namespace": (lambda: SimpleNamespace(y=B, x={"z": A}), [B, A]),
    "distribution": (lambda: SimpleNamespace(d=torch.distributions.Bernoulli(probs=A)), [A, A]),
    "circle": (Circular, [A]),
    "return type": (lambda: torch.max(A.reshape(1, 2), 1), [torch.ones(1), torch.zeros(1, dtype=torch.int64)]),
    "a module in it": (lambda: Output(A, nn.Linear(2, 2)), [A]),
    "none": (lambda: (1, "a", None, {"b": 2.0}, {A}, torch.float32, nn.ReLU, len), []),
}


@pytest.mark.parametrize("case", CASES)
def test_tensors_are_found_in_order(case):
    make, expected = CASES[case]
    found = tensors(make())
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class Returning(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.a, self.b, self.wrap = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), wrap

    def forward(self, x):
        y = self.a(x)
        return self.wrap(self.b(y), y)


@pytest.mark.parametrize("wrap", [Output, Pair, lambda y, z: {"y": y, "z": z}, lambda y, z: Output(y, {"z": [z]})])
def test_exports_of_networks_with_structured_outputs_are_verified(wrap, planned):
    model, x = Returning(wrap).eval(), torch.zeros(1, 3, 4, 4)
    _, _, _, plan = planned(model, (x,))
    exported = export(model, x, plan)
    assert exported.verification.passed and exported.verification.gradients <= 1e-9
    with torch.no_grad():
        # The second output only: what a comparison of the first tensor alone would miss.
        exported.module.a.bias += 1
    assert not verify(model, exported, x).passed


def test_outputs_without_a_tensor_are_named():
    model, x = Returning(lambda y, z: "done").eval(), torch.zeros(1, 3, 4, 4)
    with pytest.raises(
        VerificationError, match="there is no tensor in the network's output, so nothing can be compared"
    ):
        export(model, x, masks={}, baseline=True)
    assert verify(model, export(model, x, masks={}, baseline=True, verify=False), x).message == NO_TENSOR


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        ([1.0, NAN], [1.0, 2.0], INFINITE),
        ([1.0, 2.0], [1.0, NAN], INFINITE),
        ([1.0, NAN], [1.0, NAN], INFINITE),
        ([1.0, INFINITE], [1.0, 2.0], INFINITE),
        ([1.0, INFINITE], [1.0, -INFINITE], INFINITE),
        ([0.0, NAN], [0.0, 0.0], INFINITE),
        ([-INFINITE, 3.0], [-INFINITE, 2.0], 0.5),
        ([-INFINITE, INFINITE], [-INFINITE, INFINITE], 0.0),
    ],
)
def test_errors_are_never_nan(a, b, error):
    """The maximum of 0 and NaN is 0."""
    assert relative_error(torch.tensor(a), torch.tensor(b)) == error


def test_a_second_output_that_is_no_number_is_an_error(planned):
    model, x = Returning(lambda y, z: (y, z * 2)).eval(), torch.randn(2, 3, 4, 4)
    _, _, _, chosen = planned(model, (x,))
    exported = export(model, x, chosen)
    for node in exported.module.graph.nodes:
        if node.target is operator.mul:
            node.update_arg(1, NAN)
    exported.module.recompile()
    found = verify(model, exported, x)
    assert not found.passed and found.relative_error == INFINITE
