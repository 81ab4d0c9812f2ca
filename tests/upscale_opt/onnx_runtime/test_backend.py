"""ONNX Runtime as a backend: what runs in it computes what torch computes, and what cannot run is refused."""

import importlib.util
from collections import Counter

import networks
import numpy as np
import pytest
import torch
from measuring import QUICK
from torch import nn

from upscale_opt import ModelError, UpscaleError, UpscaleWarning, prune
from upscale_opt.comparing.order_checks import check_orders
from upscale_opt.latency import backends, calibration
from upscale_opt.latency.backends import ONNXRUNTIME, in_form_of, prepared, scripted
from upscale_opt.latency.calibration import conditions_of
from upscale_opt.latency.cost_tables import Conditions, CostTables
from upscale_opt.latency.profiling import profile_interleaved
from upscale_opt.latency.specimens import Specimen, forms_of, inputs_of
from upscale_opt.models.outputs import tensors
from upscale_opt.modules.writes import RangeAdd
from upscale_opt.onnx_runtime.inside import from_blocks, inside, to_blocks
from upscale_opt.onnx_runtime.optimised import BLOCKED, REORDERS, block_size, optimised
from upscale_opt.onnx_runtime.requirements import OnnxError
from upscale_opt.onnx_runtime.sessions import BoundCall, session
from upscale_opt.onnx_runtime.writing import _same, written
from upscale_opt.planning.layer_shapes import Layer

POINTWISE = Layer("Conv2d", (2, 60, 5, 5), 1, 1, 32, (1, 1), (1, 1), (0, 0), (1, 1), True, ("BatchNorm2d", "relu"))
SLOW = pytest.mark.slow
LAYERS = {
    "3x3": Layer("Conv2d", (2, 48, 5, 5), 1, 1, 6, (3, 3), (2, 2), (1, 1), (1, 1), True),
    "1x1": POINTWISE,
    "joined": Layer(
        "Conv2d", (1, 60, 5, 5), 1, 1, 32, (1, 1), (1, 1), (0, 0), (1, 1), False, ("relu",), operands=(32, 16, 12)
    ),
    "1d": Layer("Conv1d", (2, 48, 9), 1, 1, 6, (3,), (1,), (1,), (1,), True),
    "linear": Layer("Linear", (2, 480), 1, 8, 32, bias=True),
}
HERE = {"dtype": torch.float32, "device": torch.device("cpu"), "memory_format": torch.contiguous_format}


def operators(content):
    import onnx

    return [node.op_type for node in onnx.load_from_string(content).graph.node]


def ends_blocked(content):
    import onnx

    last = onnx.load_from_string(content).graph.node[-1]
    return last.domain == BLOCKED and last.op_type != "ReorderOutput"


@pytest.mark.parametrize("name", [pytest.param(own, marks=SLOW if own in ("1x1", "1d") else ()) for own in LAYERS])
def test_specimens_compute_the_same_alone_and_inside_a_network(name):
    layer = LAYERS[name]
    stored = layer.input_shape[1] // layer.channel_size
    with torch.inference_mode():
        for case in forms_of(layer, 37, stored, [40, stored], [2]):
            specimen = Specimen(layer, case, stored, np.random.default_rng(0)).eval()
            inputs = inputs_of(layer, case, stored, **HERE)
            expected = specimen(*inputs)
            torch.testing.assert_close(prepared(specimen, inputs, ONNXRUNTIME)(), expected)
            part = inside(specimen, inputs)
            found = BoundCall(session(part.content, optimise=False), part.inputs)()
            if found.ndim == 4 and ends_blocked(part.content):
                found = from_blocks(found, layer.outputs)
            torch.testing.assert_close(found, expected)


@pytest.mark.skipif("not __import__('upscale_opt.onnx_runtime.optimised', fromlist='x').block_size()")
def test_a_part_has_the_reorders_that_it_causes_and_no_others():
    def reorders(kept, late=False):
        layer = Layer("Conv2d", (1, 64, 5, 5), 1, 1, 32, (1, 1), (1, 1), (0, 0), (1, 1), True)
        cases = forms_of(layer, kept, 64, [kept, 64], [])
        found = {}
        for case in cases:
            specimen = Specimen(layer, case, 64, np.random.default_rng(0)).eval()
            part = inside(specimen, inputs_of(layer, case, 64, **HERE))
            found[str(case)] = sum(own in REORDERS for own in operators(part.content))
        return found

    aligned, odd = reorders(40), reorders(37)
    assert aligned["contiguous 40"] == aligned["over-read 64"] == odd["over-read 64"] == 0
    assert aligned["over-read 40"] == aligned["copy 40"] == 2
    assert odd["contiguous 37"] == 2 and odd["over-read 37"] == 2  # neither is in the blocked layout


def test_blocks_and_back():
    x = torch.randn(2, 20, 3, 4)
    channels = 32 if block_size() else 20
    blocked = to_blocks(x, channels)
    assert blocked.shape == (2, channels, 3, 4) and torch.equal(from_blocks(blocked, 20), x)


@pytest.mark.parametrize("network", [networks.Inverted, *(pytest.param(own, marks=SLOW) for own in networks.ALL)])
def test_exports_compute_the_same(network):
    model, inputs = networks.make(network)
    exported = prune(model, inputs, 0.5).export(verify=False).module
    with torch.inference_mode():
        found = tensors(prepared(exported, inputs, ONNXRUNTIME)())
        torch.testing.assert_close(found, tensors(exported(*inputs)), rtol=1e-4, atol=1e-5)


def test_several_inputs_and_outputs_and_one_that_is_no_tensor():
    class Several(nn.Module):
        def forward(self, x, scale, y):
            return x * scale, x + y

    x, y = torch.randn(2, 3), torch.randn(2, 3)
    found = prepared(Several(), (x, 2, y), ONNXRUNTIME)()
    torch.testing.assert_close(found, (x * 2, x + y))


@pytest.mark.slow
def test_both_exporters_give_the_same_operators():
    """The fast exporter, which measurements use, and the one that writes files."""
    model, inputs = networks.make(networks.Residual)
    exported = prune(model, inputs, 0.5).export(verify=False).module
    by_export = torch.onnx.export(exported, inputs, dynamo=True, external_data=False, verbose=False)
    counted = ("Conv", "FusedConv", "Slice", "Gather", "Concat", *REORDERS)
    fast, slow = (
        Counter(node.op_type for node in optimised(content).graph.node if node.op_type in counted)
        for content in (written(exported, inputs), by_export.model_proto.SerializeToString())
    )
    assert fast == slow and fast["Conv"] == 8


def test_additions_to_ranges_are_written_as_padded_ones():
    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.own, self.add = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), RangeAdd(1, 2, 4, 2, inplace=True)

        def forward(self, x):
            x = self.stem(x)
            return self.add(x, self.own(x)).relu()

    module, x = Adds().eval(), torch.randn(2, 3, 4, 4)
    content = written(module, (x,), verify=False)
    kinds = Counter(node.op_type for node in optimised(content).graph.node)
    assert kinds["Conv"] == 2 and kinds["Pad"] == kinds["Add"] == 1 and not kinds.keys() & {"ScatterND", "Transpose"}
    with torch.no_grad():
        torch.testing.assert_close(prepared(module, (x,), ONNXRUNTIME)(), module(x))


def test_scripts_and_written_modules_run_too():
    module, x = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), torch.randn(2, 3, 4, 4)
    with torch.inference_mode():
        for own in (scripted(module, (x,)), in_form_of(ONNXRUNTIME, module, (x,))):
            torch.testing.assert_close(prepared(own, (x,), ONNXRUNTIME)(), module(x))
            found = profile_interleaved({"own": own}, x, repeats=2, backend=ONNXRUNTIME)
            assert found["own"].backend == ONNXRUNTIME


def test_a_network_that_is_written_wrongly_is_noticed():
    module, x = nn.Linear(4, 3).eval(), (torch.randn(2, 4),)
    content = written(module, x)
    assert _same(content, x, [module(*x).detach()]) is content
    with pytest.raises(OnnxError, match="computes something else, relative error"):
        _same(content, x, [module(*x).detach() + 1])


def test_what_it_cannot_run_is_refused():
    module, x = nn.Conv2d(3, 4, 1).eval(), torch.randn(2, 3, 4, 4)
    with pytest.raises(ModelError, match=r"no convolutions in float16 .*choose float32"):
        prepared(module.half(), (x.half(),), ONNXRUNTIME)
    with pytest.raises(ModelError, match="bfloat16"):
        conditions_of((x.bfloat16(),), backend=ONNXRUNTIME)
    with pytest.raises(ModelError, match="choose the memory format contiguous"):
        conditions_of((x.to(memory_format=torch.channels_last),), backend=ONNXRUNTIME)
    with pytest.raises(ModelError, match="runs on the CPU only, and this is meta"):
        prepared(module, (x.to("meta"),), ONNXRUNTIME)

    x = (torch.randn(3, 3),)
    with pytest.raises(OnnxError, match="torch cannot write this network as ONNX"):
        prepared(scripted(Decomposed(), x), x, ONNXRUNTIME)


@pytest.mark.slow
def test_what_neither_exporter_can_write_is_refused():
    with pytest.raises(OnnxError, match="torch cannot write this network as ONNX"):
        prepared(Decomposed(), (torch.randn(3, 3),), ONNXRUNTIME)


class Decomposed(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x).S


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    with pytest.raises(ModelError, match=rf"needs {package}: pip install -e '\.\[onnx\]'"):
        backends.require_backend(ONNXRUNTIME, torch.device("cpu"))


def test_tables_of_another_version_are_not_used(tmp_path, monkeypatch):
    x = (torch.zeros(1, 3, 4, 4),)
    own, eager = conditions_of(x, backend=ONNXRUNTIME), conditions_of(x)
    assert own.runtime.startswith("onnxruntime ") and own.runtime in str(own)
    assert "runtime" not in eager.to_dict() and Conditions(**eager.to_dict()) == eager  # as in older files
    CostTables(own).save(tmp_path)
    monkeypatch.setattr(calibration, "version", lambda: "onnxruntime 0.0")
    other = conditions_of(x, backend=ONNXRUNTIME)
    assert len({own.file_name, eager.file_name, other.file_name}) == 3


def test_shapes_that_cannot_be_written_are_named_and_stay_analytic(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)).eval()
    masked = prune(model, torch.randn(1, 3, 4, 4), 0.5)

    def refusing(key, *rest):
        if key.layer.kind == "Linear":
            raise OnnxError("torch cannot write this network as ONNX")
        return measure(key, *rest)

    measure = calibration.measure
    monkeypatch.setattr(calibration, "measure", refusing)
    with pytest.warns(UpscaleWarning, match="Linear .*is not measured: torch cannot write"):
        priced = masked.calibrate(backend=ONNXRUNTIME, directory=tmp_path, effort=QUICK)
    kinds = {key.layer.kind for key in priced.costs.tables.entries}
    assert kinds == {"Conv2d"} and "else analytic" in priced.costs.name


def test_from_calibration_to_comparison(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 21, 1), nn.ReLU(), nn.Conv2d(21, 4, 1)).eval()
    x = torch.randn(1, 3, 6, 6)
    how = {"backend": ONNXRUNTIME, "directory": tmp_path, "effort": QUICK}
    masked = prune(model, x, 0.5).align("auto", **how).calibrate(**how)
    assert masked.tables and (tmp_path / masked.costs.tables.conditions.file_name).exists()
    assert list(tmp_path.glob("widths-*onnxruntime*.json"))
    found = check_orders(masked, backend=ONNXRUNTIME, time_limit=0.1, repeats=2, copies=1, verify=False)
    assert {own.backend for own in found.profiles.values()} == {ONNXRUNTIME}
    with pytest.raises(UpscaleError, match="measured in eager mode only"):
        check_orders(masked, backend=ONNXRUNTIME, accesses=True)
