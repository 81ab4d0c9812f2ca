"""Tests of saved forms: fresh processes without this package compute what the export computes, at any batch size."""

import copy
import io
import json
import pickletools
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import networks
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from solvers import solve
from upscale_opt import (
    ModelReference,
    PlanError,
    UpscaleError,
    VerificationError,
    effective_masks,
    export,
    extract,
    l2_masks,
    load,
    load_model,
    plan,
    save_as,
    trace,
)
from upscale_opt.__main__ import main
from upscale_opt.models.outputs import clones, relative_error, tensors
from upscale_opt.saving import written_forms
from upscale_opt.saving.forms import FORMS
from upscale_opt.saving.written_forms import TOLERANCES, to_bytes

ROOT = Path(__file__).resolve().parents[3]
BATCHES = (1, 2, 5)
EIGHT = (
    *("resnet50", "mobilenet_v3_large", "densenet121", "convnext_tiny", "googlenet", "shufflenet_v2_x1_0"),
    *("regnet_y_400mf", "swin_t"),
)

ISOLATED = """
import importlib.util, json, sys
for name in ("upscale_opt", "solvers", "problems", "ortools", "torchvision"):
    sys.modules[name] = None  # as if it were not installed
    assert importlib.util.find_spec(name) is None
assert {root!r} not in sys.path
"""
LOADERS = {
    "pt2": "import torch\nrun = torch.export.load('model.pt2').module()",
    "torchscript": "import torch\nrun = torch.jit.load('model.ts')",
    "onnx": """
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
def run(*inputs):
    return session.run(None, {spec.name: x for spec, x in zip(session.get_inputs(), inputs, strict=True)})
""",
}
COMPARE = {
    "torch": """
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves
def outputs(inputs):
    with torch.no_grad():
        return tree_leaves(run(*[x.clone() for x in inputs]))
""",
    "onnx": """
from safetensors.numpy import load_file
outputs = lambda inputs: run(*inputs)
assert "torch" not in sys.modules
""",
}
REPORT = """
data, errors = load_file("expected.safetensors"), {}
for batch in BATCHES:
    inputs = [data[f"{batch}.x{i}"] for i in range(NUM_INPUTS)]
    found, worst = outputs(inputs), 0.0
    for i, y in enumerate(found):
        expected = data[f"{batch}.y{i}"]
        assert tuple(y.shape) == tuple(expected.shape)
        worst = max(worst, float(abs(y - expected).max() / abs(expected).max()))
    assert f"{batch}.y{len(found)}" not in data
    errors[batch] = worst
own = tuple(f"{ROOT}/{name}/" for name in ("upscale_opt", "solvers", "problems"))
loaded = [module for module in list(sys.modules.values()) if (getattr(module, "__file__", None) or "").startswith(own)]
assert not loaded, loaded
print(json.dumps(errors))
"""
PLAN = """
import json, sys
sys.modules["ortools"] = sys.modules["pickle5"] = None
sys.path[:0] = [{root!r}, {tests!r}]
import torch, upscale_opt
from safetensors.torch import load_file
assert "solvers.methods.cp_sat" not in sys.modules
plan = upscale_opt.read_plan("plan.json")
{model}
exported = upscale_opt.load(plan, model, load_file("model.safetensors"), example)
from torch.utils._pytree import tree_leaves
def outputs(inputs):
    with torch.no_grad():
        return tree_leaves(exported(*[x.clone() for x in inputs]))
ROOT = "nowhere"
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def save_expected(exported, inputs, directory):
    """Inputs and the export's outputs at several batch sizes, as tensors and nothing else."""
    generator = torch.Generator().manual_seed(1)
    data = {}
    for batch in BATCHES:
        xs = [torch.randn((batch, *x.shape[1:]), generator=generator) for x in inputs]
        with torch.no_grad():
            ys = tensors(exported.module(*clones(tuple(xs))))
        data |= {f"{batch}.x{i}": x for i, x in enumerate(xs)} | {f"{batch}.y{i}": y for i, y in enumerate(ys)}
    save_file({name: tensor.contiguous() for name, tensor in data.items()}, directory / "expected.safetensors")


def errors_elsewhere(directory, form, num_inputs, script=None):
    """The largest relative error by batch size that a fresh, isolated process finds; it runs in the directory."""
    head = script or ISOLATED.format(root=str(ROOT)) + LOADERS[form] + COMPARE["onnx" if form == "onnx" else "torch"]
    settings = f"BATCHES, NUM_INPUTS = {BATCHES}, {num_inputs}\n" + ("" if script else f"ROOT = {str(ROOT)!r}\n")
    command = [sys.executable, "-I", "-c", head + settings + REPORT]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def assert_round_trips(exported, inputs, model_script, directory, forms=tuple(FORMS)):
    """All files of an export, each in a process of its own; returns the largest relative error of each form."""
    exported.save(directory, forms)
    save_expected(exported, inputs, directory)
    script = PLAN.format(root=str(ROOT), tests=str(ROOT / "tests" / "upscale_opt"), model=model_script)
    worst = {}
    for form in (*forms, "plan"):
        errors = errors_elsewhere(directory, form, len(inputs), script if form == "plan" else None)
        worst[form] = max(errors.values())
        assert worst[form] <= 1e-4, (form, errors)
    return worst


@pytest.fixture
def exported_net(planned):
    def build(kind, objective="copies"):
        model, inputs = networks.make(kind)
        _, _, _, made = planned(model, inputs, objective=objective)
        return export(model, inputs, made), inputs

    return build


def solved(name, size, time_limit=2):
    """A torchvision network with half of its channels pruned, ordered by greedy, exported and verified."""
    model, x = load_model(ModelReference(name, input_shape=(1, 3, size, size))), torch.zeros(1, 3, size, size)
    randomise_statistics(model)
    graph = trace(model, x)
    masks = effective_masks(graph, l2_masks(graph, 0.5)).masks
    problems = extract(graph, masks)
    results = {
        segment: solve(problem, solver="greedy", objective="copies", time_limit=time_limit)
        for segment, problem in problems.items()
    }
    return export(model, x, plan(problems, masks, results, model=ModelReference(name)), graph=graph)


def randomise_statistics(model):
    """Fresh batch norms do nothing; these do."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


@pytest.mark.parametrize(
    "kind", [pytest.param(own, marks=pytest.mark.slow) for own in (networks.Two, networks.InPlace)]
)
def test_every_form_round_trips_in_fresh_processes(kind, exported_net, tmp_path):
    """pt2, TorchScript and ONNX without this package, plan and weights without solver; three batch sizes."""
    pytest.importorskip("onnxruntime")
    exported, inputs = exported_net(kind)
    assert exported.plan.count("copy")
    shapes = ", ".join(f"torch.zeros({tuple(x.shape)})" for x in inputs)
    script = f"import networks\nmodel, example = networks.make(networks.{kind.__name__}, seed=9)[0], ({shapes},)"
    assert_round_trips(exported, inputs, script, tmp_path)


def is_quick(kind, form, objective):
    """Whether a form is written in the fast lane: ONNX takes seconds, so two networks are enough there."""
    if form == "onnx":
        return kind in (networks.Residual, networks.Flattened)
    return objective == ("copies" if form == "pt2" else "span")


@pytest.mark.parametrize(
    ("kind", "form", "objective"),
    [
        pytest.param(kind, form, own, marks=() if is_quick(kind, form, own) else pytest.mark.slow)
        for kind in networks.ALL
        for form in ("pt2", "torchscript", "onnx")
        for own in (("copies",) if form == "onnx" else ("copies", "span"))
    ],
)
def test_every_network_can_be_saved(kind, objective, form, exported_net, tmp_path):
    """What is written has been loaded and compared at batch sizes 2, 1 and 3 before."""
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    exported, _ = exported_net(kind, objective)
    mode = {name: m.training for name, m in exported.module.named_modules()}
    save_as(exported, tmp_path / "file", form)
    assert (tmp_path / "file").stat().st_size > 1000
    assert mode == {name: m.training for name, m in exported.module.named_modules()}


@pytest.mark.slow
def test_a_torchvision_network_round_trips(tmp_path):
    pytest.importorskip("onnxruntime")
    exported = solved("squeezenet1_1", 64)
    script = (
        "from upscale_opt import load_model, ModelReference\n"
        "model, example = load_model(ModelReference('squeezenet1_1', seed=7)), torch.zeros(1, 3, 64, 64)"
    )
    assert_round_trips(exported, (torch.zeros(1, 3, 64, 64),), script, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", EIGHT)
def test_eight_networks_round_trip(name, tmp_path):
    """All four saved forms, at 224 x 224, each in a fresh process."""
    pytest.importorskip("onnxruntime")
    exported = solved(name, 224)
    script = (
        "from upscale_opt import load_model, ModelReference\n"
        f"model, example = load_model(ModelReference({name!r}, seed=7)), torch.zeros(1, 3, 224, 224)"
    )
    worst = assert_round_trips(exported, (torch.zeros(1, 3, 224, 224),), script, tmp_path)
    print(name, exported.unused, {form: f"{error:.1e}" for form, error in worst.items()})


def pickled_names(content):
    """What the pickles in a zip file refer to, by module."""
    names = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for member in archive.namelist():
            data = archive.read(member)
            assert not data.startswith(b"PK"), member
            if data.startswith(b"\x80\x02"):
                names |= {str(arg) for op, arg, _ in pickletools.genops(data) if op.name == "GLOBAL"}
    return names


def test_files_hold_data_and_no_classes_of_ours(exported_net):
    """No pickle in pt2, only torch's tensors in TorchScript's; nothing says where it was written."""
    exported, _ = exported_net(networks.Residual)
    pt2 = to_bytes(exported, "pt2")
    assert pickled_names(pt2) == set()
    with zipfile.ZipFile(io.BytesIO(pt2)) as archive:
        assert not any(str(ROOT).encode() in archive.read(member) for member in archive.namelist())
    names = pickled_names(to_bytes(exported, "torchscript"))
    assert {name.partition(" ")[0].partition(".")[0] for name in names} <= {"torch", "__torch__", "collections"}


def test_onnx_files_have_standard_operators_and_an_open_batch(exported_net):
    onnx = pytest.importorskip("onnx")
    exported, _ = exported_net(networks.Two)
    model = onnx.load_from_string(to_bytes(exported, "onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""} and not model.functions
    sizes = [spec.type.tensor_type.shape.dim[0].dim_param for spec in (*model.graph.input, *model.graph.output)]
    assert set(sizes) == {"batch"}
    assert str(ROOT).encode() not in model.SerializeToString()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("kind", [networks.Residual, networks.Sliced, networks.Odd])
def test_compiled_exports_compute_the_same(kind, backend, exported_net):
    exported, inputs = exported_net(kind)
    compiled = torch.compile(copy.deepcopy(exported.module), backend=backend)
    for batch in (2, 3):
        xs = tuple(torch.randn(batch, *x.shape[1:]) for x in inputs)
        with torch.no_grad():
            for a, b in zip(tensors(compiled(*xs)), tensors(exported(*xs)), strict=True):
                assert relative_error(a, b) <= 1e-4


@pytest.mark.slow
def test_exports_compiled_to_machine_code_compute_the_same():
    """By inductor, which needs a C++ compiler, on a real network."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    exported = solved("mobilenet_v3_small", 64)
    compiled = torch.compile(copy.deepcopy(exported.module))
    for batch in (2, 3):
        x = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            assert relative_error(compiled(x), exported(x)) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "kind",
    [networks.Residual, *(pytest.param(own, marks=pytest.mark.slow) for own in (networks.Dense, networks.Inverted))],
)
def test_half_precision_and_channels_last(kind, channels_last, dtype, exported_net, tmp_path):
    """Near the export in float64, in the dtype asked for, and in every form that torch runs."""
    exported, inputs = exported_net(kind)
    x = torch.randn(2, *inputs[0].shape[1:])
    expected = copy.deepcopy(exported.module).double()(x.double()).detach()
    module = exported.module.to(dtype)
    x = x.to(dtype)
    if channels_last:
        module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    found = module(x).detach()
    assert found.dtype == dtype
    assert relative_error(found.double(), expected) <= TOLERANCES[dtype]
    for form in ("pt2", "torchscript"):
        save_as(exported, tmp_path / form, form, x)
    program = torch.export.load(tmp_path / "pt2").module()
    assert relative_error(program(x).double(), expected) <= TOLERANCES[dtype]


def test_channels_last_passes_through_a_gather(exported_net):
    exported, inputs = exported_net(networks.Inverted)
    module = exported.module.to(memory_format=torch.channels_last)
    x = torch.randn(2, *inputs[0].shape[1:])
    y = module(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert relative_error(y, exported_net(networks.Inverted)[0](x)) <= 1e-4


def test_modules_in_training_are_saved_in_eval_mode(exported_net, tmp_path):
    exported, inputs = exported_net(networks.Residual)
    expected = exported(*inputs)
    exported.module.train()
    before = {name: tensor.clone() for name, tensor in exported.module.state_dict().items()}
    save_as(exported, tmp_path / "a.pt2")
    assert all(m.training for m in exported.module.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in exported.module.state_dict().items())
    assert relative_error(torch.export.load(tmp_path / "a.pt2").module()(*inputs), expected) <= 1e-6


def test_stack_traces_are_left_out_while_a_form_is_made_only(exported_net, monkeypatch):
    exported, _ = exported_net(networks.Residual)
    before, seen = torch.fx.config.do_not_emit_stack_traces, []
    monkeypatch.setitem(
        written_forms._MAKERS, "pt2", lambda *_: seen.append(torch.fx.config.do_not_emit_stack_traces) or b""
    )
    to_bytes(exported, "pt2", verify=False)
    assert seen == [True] and torch.fx.config.do_not_emit_stack_traces == before


def test_a_form_that_computes_something_else_is_refused(exported_net, tmp_path, monkeypatch):
    """Nothing is written, and nothing in the directory is touched."""
    exported, _ = exported_net(networks.Residual)
    other, _ = exported_net(networks.Residual, "span")
    with torch.no_grad():
        other.module.head.bias.add_(1)
    exported.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    from upscale_opt.saving import written_forms as saving

    make = saving._make_torchscript
    monkeypatch.setitem(saving._MAKERS, "torchscript", lambda module, samples: make(other.module.eval(), samples))
    with pytest.raises(VerificationError, match="saved as torchscript computes something else at batch size 2"):
        other.save(tmp_path, ["pt2"]) or exported.save(tmp_path / "b", ["torchscript"])
    assert sorted(before) == sorted(["plan.json", "model.safetensors"])
    assert not (tmp_path / "b" / "plan.json").exists()


def test_errors_say_what_to_do(exported_net, tmp_path, monkeypatch):
    exported, _ = exported_net(networks.Residual)
    with pytest.raises(UpscaleError, match="no form 'keras'; choose from pt2, torchscript, onnx"):
        save_as(exported, tmp_path / "a", "keras")
    with pytest.raises(UpscaleError, match="cannot write"):
        save_as(exported, tmp_path / "missing" / "a", "pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UpscaleError, match=r"needs onnxscript: pip install -e '\.\[onnx\]'"):
        save_as(exported, tmp_path / "a", "onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(PlanError, match="give example_inputs"):
        save_as(replace(exported, example_inputs=None), tmp_path / "a")


NETS = str(ROOT / "tests" / "upscale_opt" / "networks.py")
SHAPE = ("--input-shape", "1,3,8,8")


def command_line(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["upscale-opt", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code or 0


def test_the_command_line_saves_forms(monkeypatch, tmp_path, capfd):
    """`solve` and `export` write them beside plan and weights; bad requests end before any work, with code 2."""
    model = ("--model", f"{NETS}:Residual", *SHAPE, "--solver", "greedy")
    formats = ("--format", "pt2", "--format", "torchscript", "--format", "pt2")
    for command in ("export", "solve"):
        out = tmp_path / command
        assert command_line(monkeypatch, command, *model, "--export", out, *formats) == 0
        assert sorted(p.name for p in out.iterdir()) == ["model.pt2", "model.safetensors", "model.ts", "plan.json"]
    assert command_line(monkeypatch, "export", "--plan", tmp_path / "solve" / "plan.json", *formats) == 2
    assert "--format needs a place to write to; add --export DIR" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    for command in ("export", "solve"):
        out = tmp_path / "onnx"
        assert command_line(monkeypatch, command, *model, "--export", out, "--format", "onnx") == 2
        captured = capfd.readouterr()
        assert captured.err.splitlines()[-1].startswith("error: the form 'onnx' needs onnx")
        assert "pip install -e '.[onnx]'" in captured.err and not captured.out and not out.exists()


def test_states_that_fit_neither_are_refused_by_name(exported_net):
    """The first entry that is missing, of another shape, or unknown."""
    exported, inputs = exported_net(networks.Residual)
    model, _ = networks.make(networks.Residual)
    pruned, original = exported.module.state_dict(), model.state_dict()
    for state, whose in ((pruned, "the export's"), (original, "the original model's")):
        lacking = {name: tensor for name, tensor in state.items() if name != "down.bias"}
        with pytest.raises(PlanError, match=rf"{whose} has 'down.bias' of shape .*, which is missing"):
            load(exported.plan, model, lacking, inputs)
        with pytest.raises(PlanError, match=rf"{whose} has 'bn.weight' of shape .*, this one of shape \(7,\)"):
            load(exported.plan, model, {**state, "bn.weight": torch.zeros(7)}, inputs)
        with pytest.raises(PlanError, match="it has 'extra', which the model does not have"):
            load(exported.plan, model, {**state, "extra": torch.zeros(7)}, inputs)
    again = load(exported.plan, model, original, inputs)
    assert torch.equal(again(*inputs), exported(*inputs))


class Chain(nn.Module):
    """Two convolutions: an order of the channels between them is no change of shape."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def test_a_plan_that_only_reorders_needs_to_be_told(planned):
    model, inputs = Chain().eval(), (torch.randn(2, 3, 4, 4),)
    _, _, _, made = planned(model, inputs, keep=2.0)
    exported = export(model, inputs, made)
    assert not torch.equal(exported.module.a.weight, model.a.weight)
    with pytest.raises(PlanError, match="give pruned=False or pruned=True"):
        load(made, model, model.state_dict(), inputs)
    for state, pruned in ((model.state_dict(), False), (exported.module.state_dict(), True)):
        assert torch.equal(load(made, model, state, inputs, pruned=pruned)(*inputs), exported(*inputs))
