"""A 1x1 convolution as a matrix product: the same numbers, the memory format of its input, no hidden copy."""

import networks
import pytest
import torch
from torch import nn

from upscale_opt import ModelError, PlanError, export, trace
from upscale_opt.modules.matrix_convolution import MatrixConv2d, is_pointwise
from upscale_opt.planning.reading import MATMUL

FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_the_convolution(memory_format, batch, stride, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, 1, stride=stride, bias=bias).double()
    x = torch.randn(batch, 9, 6, 8, dtype=torch.float64).contiguous(memory_format=memory_format)[:, 2:7]
    found, expected = MatrixConv2d.of(convolution)(x), convolution(x)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_slice_of_channels_is_read_in_place(memory_format):
    """The profiler sees no copy, where the convolution copies a slice of several samples or of channels_last."""
    convolution = nn.Conv2d(8, 4, 1, bias=False)
    x = torch.randn(4, 16, 5, 5).contiguous(memory_format=memory_format)[:, 3:11]
    with torch.inference_mode():
        assert "aten::copy_" in _operators(convolution, x)
        assert "aten::copy_" not in _operators(MatrixConv2d.of(convolution), x)


def _operators(module, x):
    with torch.profiler.profile() as profiler:
        module(x)
    return {event.key for event in profiler.key_averages()}


def test_others_are_refused():
    assert is_pointwise(nn.Conv2d(4, 4, 1)) and not is_pointwise(nn.Conv2d(4, 4, 3))
    assert not is_pointwise(nn.Conv2d(4, 4, 1, groups=2)) and not is_pointwise(nn.Linear(4, 4))
    with pytest.raises(ModelError, match="no 1x1 convolution"):
        MatrixConv2d.of(nn.Conv2d(4, 4, 3))


def test_an_export_computes_planned_consumers_as_products_and_can_be_exported_again(planned):
    model, inputs = networks.make(networks.Residual)
    graph, _, _, plan = planned(model, inputs, objective="span")
    exported = export(model, inputs, plan.with_readings(["down"], kernel=MATMUL), graph=graph)
    assert exported.verification.passed and type(exported.module.down) is MatrixConv2d
    assert exported.module.down.weight.requires_grad
    again = trace(exported.module, inputs)
    assert "down.weight" in again.consumers and not again.unsupported


def test_only_convolutions_of_single_pixels_can_be_planned_as_products(planned):
    model, inputs = networks.make(networks.Residual)
    graph, _, _, plan = planned(model, inputs)
    with pytest.raises(PlanError, match="no 1x1 convolution"):
        export(model, inputs, plan.with_readings(["stem"], kernel=MATMUL), graph=graph)
