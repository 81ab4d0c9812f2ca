"""Tests of the pointwise convolution that selects its input: what it computes, when its kernel runs, what records it.

Without a GPU the kernel runs through Triton's interpreter in a process of its own (the interpreter is chosen when
Triton is imported), and is compiled for a GPU that need not be there.
"""

import copy
import importlib.util
import itertools
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from upscale_opt import trace
from upscale_opt.errors import UpscaleError
from upscale_opt.models.memory_formats import is_channels_last
from upscale_opt.modules.gather_convolution import GatherConv2d
from upscale_opt.modules.selections import Gather

ROOT = Path(__file__).resolve().parents[3]
INDICES = {"sorted": [0, 2, 3, 7], "unsorted": [8, 0, 5], "repeated": [4, 4, 1, 4], "long": [*range(8, -1, -1)] * 5}
SHAPES = {"one": (1, 9, 7, 5), "three": (3, 9, 9, 13), "pixel": (3, 9, 1, 1), "column": (2, 9, 17, 1)}
LAYOUTS = ("contiguous", "channels_last", "narrowed", "strided", "transposed")
DTYPES = {"float32": 1e-5, "float16": 2e-3}

HAS_TRITON = importlib.util.find_spec("triton") is not None
OLD_TRITON = not HAS_TRITON or tuple(map(int, metadata.version("triton").split(".")[:2])) < (3, 7)

needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed")
needs_interpreter = pytest.mark.skipif(
    OLD_TRITON, reason="needs Triton 3.7, whose interpreter is the first to run loops under NumPy 2.4"
)
needs_cuda = pytest.mark.skipif(
    not HAS_TRITON or not torch.cuda.is_available(), reason="needs a CUDA device and Triton"
)
DEVICE_CASES = (("three", "sorted", True), ("three", "long", False), ("pixel", "long", False))
DEVICE_LAYOUTS = {"float32": LAYOUTS, "float16": LAYOUTS[:2], "bfloat16": LAYOUTS[:2]}
"""Few: every combination of dtype, sizes and strides that Triton specialises is compiled by itself."""


def only_one_configuration(kernels):
    """Let the kernel be compiled in one configuration; tuning takes a second or more for every shape."""
    kernels._tuned_kernel.configs = kernels._tuned_kernel.configs[:1]


@pytest.fixture
def one_configuration():
    from upscale_opt.modules import triton_kernels

    before = triton_kernels._tuned_kernel.configs
    only_one_configuration(triton_kernels)
    yield
    triton_kernels._tuned_kernel.configs = before


def laid_out(shape, layout, dtype, device="cpu"):
    """Random numbers in one of several memory layouts."""
    batch, channels, height, width = shape
    if layout == "narrowed":
        x = torch.randn(batch, channels + 3, height + 2, width, dtype=dtype, device=device)
        return x.to(memory_format=torch.channels_last)[:, 2:-1, 1:-1]
    if layout == "strided":
        return torch.randn(batch, channels, height, 2 * width, dtype=dtype, device=device)[..., ::2]
    if layout == "transposed":
        return torch.randn(batch, channels, width, height, dtype=dtype, device=device).transpose(2, 3)
    x = torch.randn(*shape, dtype=dtype, device=device)
    return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x


class Fused(nn.Module):
    """The module behind what it refers to, as an export has them: registered side by side, called as one."""

    def __init__(self, index, bias, prologue=None):
        super().__init__()
        self.conv = GatherConv2d(torch.tensor(index), 19, bias=bias)
        if prologue is not None:
            self.norm = nn.BatchNorm2d(len(index), eps=1e-3, affine="affine" in prologue)
            self.act = nn.ReLU() if "relu" in prologue else nn.Identity()
            self.conv.with_prologue(self.norm, "function" in prologue or ("relu" in prologue and self.act))
            with torch.no_grad():
                for own in (self.norm.running_mean, self.norm.weight, self.norm.bias):
                    if own is not None:
                        own.normal_()
                self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.conv(x)


def fused_error(shape, layout, index, bias, dtype, device="cpu", prologue=None):
    """Largest error of the kernel's result relative to the largest value of the reference in float64."""
    torch.manual_seed(0)
    module = Fused(INDICES[index], bias, prologue).eval().to(device, getattr(torch, dtype))
    x = laid_out(SHAPES[shape], layout, module.conv.weight.dtype, device)
    with torch.no_grad():
        assert module.conv._fuses(x)
        y = module(x)
        expected = copy.deepcopy(module).double()(x.double())
    assert y.shape == expected.shape and y.dtype == x.dtype
    if layout in ("contiguous", "channels_last"):
        assert is_channels_last(y) == is_channels_last(x)
    return float((y - expected).abs().max() / expected.abs().max())


def cases():
    options = (("sorted", True, "float32"), ("unsorted", False, "float16"), ("repeated", True, "float16"))
    options = (*options, ("long", False, "float32"))
    plain = [(*place, *option) for place in itertools.product(SHAPES, LAYOUTS) for option in options]
    places = (("three", "channels_last"), ("three", "narrowed"), ("one", "contiguous"), ("pixel", "channels_last"))
    prologues = ("norm", "norm affine", "norm relu", "norm affine relu", "norm affine function")
    return plain + [
        (*place, "long", True, dtype, "cpu", own) for place in places for own in prologues for dtype in DTYPES
    ]


def script(*lines, **environment):
    """The last line that a Python process of its own prints, with these tests imported."""
    imports = (
        "import sys",
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})",
        "import test_gather_convolution as t",
    )
    result = subprocess.run(
        [sys.executable, "-c", "\n".join((*imports, *lines))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "TRITON_INTERPRET": "0",
            **environment,
        },
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def interpreted_errors():
    """What the kernel computes in the interpreter, by case."""
    code = "import json; print(json.dumps({str(case): t.fused_error(*case) for case in t.cases()}))"
    return json.loads(script(code, TRITON_INTERPRET="1"))


@needs_interpreter
@pytest.mark.parametrize("case", cases(), ids=lambda case: "-".join(map(str, case)))
def test_interpreted_kernel_equals_reference(case, interpreted_errors):
    assert interpreted_errors[str(case)] < DTYPES[case[4]]


@needs_triton
def test_kernel_skips_what_it_does_not_cover():
    """Gradients, other dtypes, autocast, recorders and channels that do not exist go to the reference."""
    code = """
import torch
module = t.GatherConv2d(torch.tensor([5, 1, 1]), 4)
x = torch.randn(2, 6, 3, 5)
assert not module._fuses(x)
with torch.no_grad():
    assert module._fuses(x)
    assert not module._fuses(x[:, :5]) and not module._fuses(x[:0]) and not module._fuses(x[0])
    assert not module._fuses(x.double()) and not module._fuses(x.half()) and not module._fuses(x.to('meta'))
    assert not t.copy.deepcopy(module).double()._fuses(x.double())
    with torch.autocast('cpu', torch.bfloat16):
        assert not module._fuses(x)
    from torch.fx.experimental.proxy_tensor import make_fx
    assert 'upscale_opt' not in make_fx(module)(x).code
    assert 'upscale_opt' not in torch.export.export(module, (x,)).graph_module.code
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter:
        module(x)
    assert counter.get_total_flops() == 2 * 2 * 3 * 4 * 15
print('fine')
"""
    assert script(code, TRITON_INTERPRET="1") == "fine"


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype, precision", [("fp32", "ieee"), ("fp32", "tf32"), ("fp16", "ieee"), ("bf16", "ieee")])
def test_kernel_compiles_for_a_gpu(dtype, precision, capability):
    """To machine code for compute capabilities 8.0 and 9.0, with sizes of one (which Triton specialises) too.

    With and without what stands in front of the convolution, whose tensors may be float32 beside others.

    The interpreter takes more than the compiler does, and it cannot multiply bfloat16.
    """
    code = f"""
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from upscale_opt.modules import triton_kernels
config = triton_kernels._CONFIGS[2]
ones = ('num_outputs', 'num_channels', 'num_inner', 'num_pixels', 'x_channel', 'out_channel', 'weight_channel')
bare = dict.fromkeys(('HAS_NORM', 'HAS_AFFINE', 'RELU'), False) | dict.fromkeys(('mean', 'variance', 'scale', 'shift'))
norm = {{'HAS_NORM': True, 'HAS_AFFINE': True, 'RELU': True}}
for special in (
    {{'HAS_BIAS': True, **bare}},
    {{'HAS_BIAS': False, 'bias': None, **bare, **dict.fromkeys(ones, 1)}},
    {{'HAS_BIAS': True, **norm}},
    {{'HAS_BIAS': True, **norm, 'HAS_AFFINE': False, 'scale': None, 'shift': None}},
):
    constants = {{**config.kwargs, 'PRECISION': '{precision}', **special}}
    pointers = {{name: '*{dtype}' for name in ('x', 'weight', 'bias', 'out', 'scale', 'shift')}}
    pointers |= {{'index': '*i64', 'mean': '*fp32', 'variance': '*fp32', 'eps': 'fp32'}}
    names = triton_kernels._kernel.arg_names
    types = {{n: 'constexpr' if n in constants else pointers.get(n, 'i32') for n in names}}
    values = {{(names.index(name),): value for name, value in constants.items()}}
    options = {{'num_warps': config.num_warps, 'num_stages': config.num_stages}}
    source = ASTSource(triton_kernels._kernel, types, values)
    assert triton.compile(source, target=GPUTarget('cuda', {capability}, 32), options=options).asm['cubin']
print('fine')
"""
    assert script(code) == "fine"


@needs_triton
def test_what_stands_in_front_is_left_to_its_modules_where_they_do_more():
    """A BatchNorm in training mode or without statistics, and modules with hooks."""
    code = """
import torch
module, x = t.Fused([0, 2, 3], True, 'norm affine relu').eval(), torch.randn(2, 9, 3, 5)
with torch.no_grad():
    assert module.conv._fuses(x)
    assert not module.train().conv._fuses(x)
    before = module.norm.running_mean.clone()
    module(x)
    assert not torch.equal(before, module.norm.running_mean) and int(module.norm.num_batches_tracked) == 1
    assert module.eval().conv._fuses(x)
    handle = module.act.register_forward_hook(lambda *own: None)
    assert not module.conv._fuses(x)
    handle.remove()
    module.norm.running_mean = module.norm.running_var = None
    assert not module.conv._fuses(x)
print('fine')
"""
    assert script(code, TRITON_INTERPRET="1") == "fine"


def test_copies_and_conversions_keep_to_what_they_refer_to():
    module, x = Fused([0, 2, 3], True, "norm affine relu").eval(), torch.randn(2, 9, 3, 5)
    plain = nn.Sequential(Gather(torch.tensor([0, 2, 3]), 1), module.norm, module.act)
    with torch.no_grad():
        expected = nn.functional.conv2d(plain(x), module.conv.weight, module.conv.bias)
        assert torch.allclose(module(x), expected)
        twin = copy.deepcopy(module)
        twin.norm.running_mean += 1
        assert torch.allclose(module(x), expected) and not torch.allclose(twin(x), expected)
        assert twin.conv._prologue[0] is twin.norm and module.double()(x.double()).dtype == torch.float64
    assert set(module.state_dict()) == {
        *("conv.weight", "conv.bias", "norm.weight", "norm.bias"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    }


def test_only_a_batchnorm_and_a_relu_may_stand_in_front():
    module = GatherConv2d(torch.tensor([0, 1]), 4)
    for norm, relu in ((nn.BatchNorm2d(3), False), (nn.GroupNorm(1, 2), True), (nn.BatchNorm2d(2), nn.SiLU())):
        with pytest.raises(UpscaleError, match="give an nn"):
            module.with_prologue(norm, relu)


def sees_one_operator(device_is_there):
    """Code that compiles the module as a whole, with what the graph calls."""
    mode = "nullcontext()" if device_is_there else "FakeTensorMode()"
    return f"""
import torch
from contextlib import nullcontext
from torch._dynamo.testing import EagerAndRecordGraphs
from torch._subclasses.fake_tensor import FakeTensorMode
from upscale_opt.modules import triton_kernels
t.only_one_configuration(triton_kernels)
backend = EagerAndRecordGraphs()
module = t.GatherConv2d(torch.tensor([5, 1, 1]), 4, bias=False)
with {mode}, torch.no_grad():
    module.weight = torch.nn.Parameter(torch.ones(4, 3, 1, 1, device='cuda'))
    module.selection.index = torch.ones(3, dtype=torch.int64, device='cuda')
    x = torch.ones(2, 6, 3, 5, device='cuda').to(memory_format=torch.channels_last)
    y = torch.compile(module, backend=backend, fullgraph=True)(x)
assert y.shape == (2, 4, 3, 5) and t.is_channels_last(y)
calls = [str(node.target) for graph in backend.graphs for node in graph.graph.nodes if node.op == 'call_function']
names = [own.removesuffix('.default') for own in calls]  # versions of torch differ in which of both they record
assert names == ['upscale_opt.gather_convolution'], calls
print('fine')
"""


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device, and a test with real tensors")
def test_compile_sees_one_operator():
    """torch.compile takes the module as a whole and calls the kernel; seen with fake tensors, which need no device."""
    assert script(sees_one_operator(False)) == "fine"


@pytest.mark.cuda
@needs_cuda
def test_compile_on_a_gpu_sees_one_operator():
    assert script(sees_one_operator(True)) == "fine"


@needs_triton
def test_tests_on_a_gpu_compile_one_configuration():
    """On a GPU they once did not end: every one of hundreds of shapes was tuned over six configurations."""
    code = """
from upscale_opt.modules import triton_kernels
assert len(triton_kernels._tuned_kernel.configs) == len(triton_kernels._CONFIGS) > 1
t.only_one_configuration(triton_kernels)
assert len(triton_kernels._tuned_kernel.configs) == 1
print('fine')
"""
    assert script(code) == "fine"
    assert sum(map(len, DEVICE_LAYOUTS.values())) * len(DEVICE_CASES) <= 30


@pytest.mark.cuda
@needs_cuda
@pytest.mark.parametrize(
    "dtype, layout", [(dtype, own) for dtype, layouts in DEVICE_LAYOUTS.items() for own in layouts]
)
def test_kernel_on_a_gpu_equals_reference(dtype, layout, one_configuration):
    for shape, index, bias in DEVICE_CASES:
        assert fused_error(shape, layout, index, bias, dtype, "cuda") < {**DTYPES, "bfloat16": 2e-2}[dtype]


@pytest.mark.cuda
@needs_cuda
def test_compiled_kernel_on_a_gpu_equals_reference(one_configuration):
    """Without TF32, which cuDNN's convolutions use by default and the kernel never does."""
    module = GatherConv2d(torch.tensor([5, 1, 1]), 4, device="cuda")
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        compiled = torch.compile(module, fullgraph=True)
        for batch, layout in itertools.product((1, 3), LAYOUTS[:2]):
            x = laid_out((batch, 6, 7, 5), layout, torch.float32, "cuda")
            torch.testing.assert_close(compiled(x), module(x))


def test_nothing_imports_triton():
    code = """
import torch, upscale_opt
[getattr(upscale_opt, name) for name in upscale_opt.__all__]
with torch.no_grad():
    t.GatherConv2d(torch.tensor([1, 0]), 3)(torch.randn(2, 4, 5, 6))
assert 'triton.language' not in sys.modules and 'upscale_opt.modules.triton_kernels' not in sys.modules
print('fine')
"""
    assert script(code) == "fine"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bias", [True, False])
def test_stands_for_a_gather_and_a_convolution(layout, bias):
    convolution = nn.Conv2d(4, 5, 1, bias=bias).double()
    index = torch.tensor(INDICES["unsorted"] + [8])
    module = GatherConv2d.from_convolution(convolution, index)
    x = laid_out((3, 9, 4, 5), layout, torch.float64)
    y = module(x)
    torch.testing.assert_close(y, convolution(Gather(index, 1)(x)), rtol=0, atol=0)
    assert module.weight is convolution.weight and module.bias is convolution.bias
    assert module.state_dict().keys() == convolution.state_dict().keys()
    assert is_channels_last(y) == (layout in ("channels_last", "narrowed"))  # the latter is a slice of the former


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_scripts_of_gathers_hold_for_every_shape_without_a_warning(memory_format, recwarn):
    x = torch.rand(2, 9, 4, 5).to(memory_format=memory_format)
    script = torch.jit.trace(Gather(torch.tensor([8, 0, 5]), 1).eval(), x)
    assert not [own for own in recwarn if issubclass(own.category, torch.jit.TracerWarning)]
    other = torch.rand(3, 9, 6, 2).to(memory_format=memory_format)
    assert torch.equal(script(other), other[:, [8, 0, 5]])


def test_trains():
    module = GatherConv2d(torch.tensor([3, 3, 0]), 2, dtype=torch.float64)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w, b: torch.func.functional_call(module, {"weight": w, "bias": b}, x), (x, module.weight, module.bias)
    )
    module(x).sum().backward()
    assert (x.grad[:, 1:3] == 0).all() and (x.grad[:, [0, 3]] != 0).any()


def test_moves_copies_and_is_saved(tmp_path):
    module = GatherConv2d(torch.tensor([3, 3, 0]), 2)
    x = torch.randn(2, 4, 3, 3)
    torch.save(module, tmp_path / "module.pt")
    for other in (copy.deepcopy(module), torch.load(tmp_path / "module.pt", weights_only=False)):
        torch.testing.assert_close(other(x), module(x), rtol=0, atol=0)
    half = copy.deepcopy(module).half()
    assert half.weight.dtype == torch.float16 and half.index.dtype == torch.int64
    assert "num_selected=3" in str(module)


def test_is_retraced_as_a_gather_and_a_convolution():
    """torch.fx writes views and a convolution; our own trace keeps the `Gather`, whose channels it can follow."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), GatherConv2d(torch.tensor([5, 1, 1]), 4)).eval()
    x = torch.randn(2, 3, 7, 5)
    traced = fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))
    assert {node.target for node in traced.graph.nodes if node.op == "call_function"} == {
        torch.narrow,
        torch.cat,
        torch.conv2d,
    }
    graph = trace(model, x)
    assert [read.weight for read in graph.reads] == ["0.weight", "2.weight"]
    assert not any("2" in pin for pin in map(str, graph.pins))


def test_is_exported_without_triton():
    module = GatherConv2d(torch.tensor([5, 1, 1]), 4).eval()
    x = torch.randn(2, 6, 7, 5)
    exported = torch.export.export(module, (x,), dynamic_shapes={"input": {0: torch.export.Dim("batch")}})
    larger = torch.randn(5, 6, 7, 5)
    torch.testing.assert_close(exported.module()(larger), module(larger))
    assert "upscale_opt" not in exported.graph_module.code
    with pytest.warns(DeprecationWarning):
        scripted = torch.jit.trace(module, x)
    torch.testing.assert_close(scripted(larger), module(larger))


@pytest.mark.parametrize("index", [torch.tensor([0, -1]), torch.tensor([], dtype=torch.int64), torch.tensor([1.0])])
def test_bad_index_is_refused(index):
    with pytest.raises(UpscaleError, match="non-empty int64 vector"):
        GatherConv2d(index, 4)


@pytest.mark.parametrize(
    "convolution, message",
    [
        (nn.Conv2d(2, 4, 3), "1 x 1"),
        (nn.Conv2d(2, 4, 1, stride=2), "1 x 1"),
        (nn.Conv2d(2, 4, 1, padding=1), "1 x 1"),
        (nn.Conv2d(2, 4, 1, groups=2), "1 x 1"),
        (nn.LazyConv2d(4, 1), "1 x 1"),
        (nn.Conv2d(3, 4, 1), "slice its weight"),
    ],
)
def test_other_convolutions_are_refused(convolution, message):
    with pytest.raises(UpscaleError, match=message):
        GatherConv2d.from_convolution(convolution, torch.tensor([1, 0]))
