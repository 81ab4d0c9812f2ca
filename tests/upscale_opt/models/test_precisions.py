"""Precisions: dtypes, the setting of TF32 and where it is named, random weights that leave the range of float16."""

import json

import pytest
import torch
from torch import nn

from upscale_opt import ModelError, ModelReference, load_model
from upscale_opt.commands import options
from upscale_opt.latency.cost_tables import Conditions, CostTables
from upscale_opt.models.loading import has_random_weights
from upscale_opt.models.precisions import (
    LARGEST,
    PRECISIONS,
    SMALLEST,
    dtype_of,
    in_precision,
    rescale,
    settle,
    tf32_setting,
)

CUDA = torch.device("cuda")


@pytest.fixture
def a_gpu(monkeypatch):
    """A device of compute capability 9.0 as far as precisions ask; torch's settings are put back."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU")
    yield monkeypatch
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_the_command_line_knows_the_same_names():
    assert options.DTYPES == PRECISIONS


def test_float32_is_without_tf32_in_both_and_tf32_with_it_in_both(a_gpu):
    assert settle("tf32", CUDA) is torch.float32
    assert torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32
    assert tf32_setting(CUDA, torch.float32) == "on"
    assert settle("float32", CUDA) is torch.float32
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert tf32_setting(CUDA, torch.float32) == "off"


def test_settings_of_torch_itself_are_named(a_gpu):
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # torch's default
    assert tf32_setting(CUDA, torch.float32) == "convolutions"
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = True, False
    assert tf32_setting(CUDA, torch.float32) == "products"
    assert tf32_setting(CUDA, torch.float16) == "" == tf32_setting(torch.device("cpu"), torch.float32)


def test_a_general_setting_that_stands_against_it_is_told(a_gpu):
    before = torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision = "tf32"
        with pytest.raises(ModelError, match=r"torch\.backends\.fp32_precision says so"):
            settle("float32", CUDA)
    finally:
        torch.backends.fp32_precision = before


def test_a_device_without_tensor_cores_is_told(a_gpu):
    a_gpu.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 0))
    for name in ("tf32", "bfloat16"):
        with pytest.raises(ModelError, match=r"needs compute capability 8\.0, which a GPU does not have"):
            settle(name, CUDA)
    assert settle("float16", CUDA) is torch.float16


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ModelError, match="there is no dtype 'int8'"):
        dtype_of("int8")
    with pytest.raises(ModelError, match="tf32 needs a CUDA device"):
        settle("tf32", torch.device("cpu"))
    unfit = nn.Sequential(nn.Linear(4, 4))
    unfit.register_forward_hook(lambda _, x, __: torch.linalg.inv(x[0][:, :2]))
    with pytest.raises(ModelError, match="does not run in float16"):
        in_precision(unfit.eval(), torch.randn(2, 4), "float16", random_weights=True)


def test_tables_name_the_setting_and_older_files_stay_readable(tmp_path):
    older = Conditions("a GPU", "float32", "contiguous", "eager", 0, "2.11.0")
    CostTables(older).save(tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert "tf32" not in json.loads(path.read_text())["conditions"]  # as versions before wrote it
    assert CostTables.load(tmp_path, older).conditions == older
    names = {older.file_name}
    for setting in ("on", "off", "convolutions", "products"):
        own = Conditions("a GPU", "float32", "contiguous", "eager", 0, "2.11.0", tf32=setting)
        assert f"float32 (TF32: {setting})" in str(own)
        names.add(own.file_name)
        assert CostTables.load(tmp_path, own).entries == {} and own.to_dict()["tf32"] == setting
        CostTables(own).save(tmp_path)
        assert CostTables.load(tmp_path, own).conditions == own
    assert len(names) == 5


def test_tables_of_versions_before_keep_their_names():
    """So that what was measured on a CPU is found."""
    known = Conditions("a CPU", "float32", "contiguous", "eager", 2, "2.13.0", "retained")
    assert known.file_name == "a-cpu-float32-contiguous-eager-dd7ed358.json"


class Chain(nn.Module):
    """Layers whose values grow or vanish, one of them called twice, with a sum around the middle."""

    def __init__(self, scale):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(6))
        self.last = nn.Linear(16, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(scale)

    def forward(self, x):
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = x + layer(torch.relu(x))
        return self.last(self.layers[0](x))


def largest_values(model, x):
    found = []
    hooks = [
        layer.register_forward_hook(lambda _, __, y: found.append(float(y.abs().max())))
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("scale", [100.0, 1e-3])
def test_weights_whose_values_do_not_fit_are_rescaled(scale):
    torch.manual_seed(0)
    model, x = Chain(scale).eval(), torch.randn(5, 16)
    assert rescale(model, (x,)) >= 6
    assert all(SMALLEST / 16 <= top <= LARGEST for top in largest_values(model, x))
    assert rescale(model, (x,)) == 0
    kept = [hook for layer in model.modules() for hook in layer._forward_hooks]
    assert not kept


def test_weights_that_fit_stay_as_they_are():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval(), torch.randn(2, 3, 8, 8)
    before = [parameter.clone() for parameter in model.parameters()]
    assert rescale(model, (x,)) == 0
    assert all(torch.equal(own, parameter) for own, parameter in zip(before, model.parameters()))


def test_random_mobilenet_v2_has_outputs_in_float16(recwarn):
    """It vanished: 0 / 0 was what a comparison of its outputs saw."""
    reference = ModelReference("mobilenet_v2", seed=0, input_shape=(1, 3, 64, 64))
    model, x = load_model(reference), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert float(model(x).abs().max()) < 1e-6
    model, x, notes = in_precision(model, x, "float16", random_weights=has_random_weights(reference))
    with torch.inference_mode():
        y = model(x)
    assert y.dtype == x.dtype == torch.float16 and torch.isfinite(y).all() and float(y.abs().max()) > SMALLEST / 16
    assert len(notes) == 1 and "layers are rescaled" in notes[0]


def test_given_weights_are_not_touched_but_said():
    model, x = nn.Sequential(nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    nn.init.constant_(model[0].weight, 1e6)
    model, x, notes = in_precision(model, x, "float16", random_weights=False)
    assert notes == ("outputs in float16 are not finite: latencies can be measured, values not be compared",)
    assert has_random_weights(ModelReference("resnet18")) and has_random_weights(ModelReference("timm:resnet18"))
    assert not has_random_weights(ModelReference("resnet18", weights="DEFAULT"))
    assert not has_random_weights(ModelReference("nets.py:Net"))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_on_a_cpu(precision):
    model, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.randn(1, 3, 8, 8)
    model, x, notes = in_precision(model, x, precision, random_weights=True)
    assert x.dtype == next(model.parameters()).dtype == getattr(torch, precision) and notes == ()
