"""What only a GPU can say: recordings replay what they were made of, in every precision, and checks run on them."""

import gc

import networks
import pytest
import torch
from torch import nn

from upscale_opt import effective_masks, l2_masks, trace
from upscale_opt.comparing.order_checks import check_orders
from upscale_opt.comparing.pruning import prepare
from upscale_opt.latency.backends import CUDA_GRAPH, prepared, shared_pool
from upscale_opt.latency.calibration import Effort, calibrate, conditions_of
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.models.loading import in_memory_format
from upscale_opt.models.precisions import in_precision, settle
from upscale_opt.modules.gather_convolution import is_fused_on
from upscale_opt.planning.cost_model import AnalyticCosts

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
EFFORT = Effort(spans=1, rounds=2, sweeps=1, seconds=0.0, copies=1)


@pytest.fixture
def one_configuration():
    """The kernel that gathers is compiled once per shape, and not tuned."""
    if not is_fused_on(torch.device("cuda")):
        yield
        return
    from upscale_opt.modules import triton_kernels

    before = triton_kernels._tuned_kernel.configs
    triton_kernels._tuned_kernel.configs = before[:1]
    yield
    triton_kernels._tuned_kernel.configs = before


@pytest.fixture
def precisions():
    """Torch's settings are put back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


class Summing(nn.Module):
    """Adds what it computes to a total that can be seen from outside."""

    def __init__(self, total):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1, bias=False)
        self.total = [total]

    def forward(self, x):
        self.total[0].add_(self.convolution(x))
        return self.total[0]


def test_recordings_that_share_memory_replay_what_they_were_made_of():
    with torch.inference_mode():
        pool, calls, totals, expected = shared_pool(CUDA_GRAPH), [], [], []
        for _ in range(3):
            total = torch.zeros(2, 4, 5, 5, device="cuda")
            module, x = Summing(total).cuda().eval(), torch.randn(2, 3, 5, 5, device="cuda")
            expected.append(module.convolution(x).clone())
            calls.append(prepared(module, (x,), CUDA_GRAPH, pool))
            totals.append(total)
        del module, x
        gc.collect()
        junk = [torch.randn(64, 64, device="cuda") for _ in range(200)]  # takes whatever memory was given back
        for total in totals:
            total.zero_()
        for _ in range(2):
            for call in calls:
                call()
        torch.cuda.synchronize()
    assert len(junk) == 200
    for total, own in zip(totals, expected):
        torch.testing.assert_close(total, 2 * own, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16", "bfloat16"])
def test_precisions_are_named_in_the_conditions(precision, precisions):
    model, x = nn.Conv2d(3, 4, 1).cuda().eval(), torch.randn(1, 3, 4, 4, device="cuda")
    _, x, _ = in_precision(model, x, precision, random_weights=True)
    conditions = conditions_of((x,), backend=CUDA_GRAPH)
    assert conditions.tf32 == {"float32": "off", "tf32": "on"}.get(precision, "")
    assert conditions.dtype == ("float32" if precision == "tf32" else precision)


def test_float32_is_as_exact_as_it_says(precisions):
    """Convolutions and matrix products alike: their errors against float64 are those of float32."""
    settle("float32", torch.device("cuda"))
    x, w = torch.randn(8, 256, 8, 8, device="cuda"), torch.randn(64, 256, 1, 1, device="cuda")
    exact = torch.nn.functional.conv2d(x.double(), w.double())
    product = torch.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])
    for own in (torch.nn.functional.conv2d(x, w), product):
        assert float((own - exact).abs().max() / exact.abs().max()) < 1e-5


def test_half_precision_is_calibrated_and_checked_with_recordings(tmp_path, one_configuration, precisions):
    model, inputs = networks.make(networks.Residual)
    model, x = model.cuda(), inputs[0].cuda()
    x = in_memory_format("channels_last", x, model)
    model, x, _ = in_precision(model, x, "float16", random_weights=True)
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, "0.5"))
    tables = calibrate(masks, (x,), backend=CUDA_GRAPH, directory=tmp_path, effort=EFFORT)
    assert tables.conditions.backend == CUDA_GRAPH and tables.entries
    costs = MeasuredCosts(tables, AnalyticCosts.for_device("cuda"))
    made = prepare(model, x, masks, graph=graph, objective="latency", costs=costs)
    found = check_orders(
        made, time_limit=0.2, repeats=2, copies=2, backend=CUDA_GRAPH, verify=True, beside={"unpruned": model}
    )
    assert all(own > 0 for own in (*found.measured, found.floor, found.beside["unpruned"]))
