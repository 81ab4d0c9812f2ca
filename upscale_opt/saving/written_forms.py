"""Saves an export in forms that can be used without this package: ``torch.export``, TorchScript and ONNX files.

Every form is made from the module alone, in eval mode, with a dynamic batch. Before anything is written, the saved form
is loaded again and run at other batch sizes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import fx, nn

from problems import ProblemError
from problems.files import write_bytes_atomically
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import PlanError, UpscaleError, VerificationError, first_line
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.outputs import clones, relative_error, tensors
from upscale_opt.models.running import device_of
from upscale_opt.modules.writes import padded_writes
from upscale_opt.saving.forms import require_forms
from upscale_opt.saving.samples import Samples, with_images

TOLERANCES = {torch.float64: 1e-4, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 1e-1}
"""Largest allowed relative error of a saved form's outputs, by the dtype of the module."""

_ONNX_RUNS = (torch.float32, torch.float64)  # on the CPU, onnxruntime lacks operators for half precision


class Savable(Protocol):
    """The object to save: an `upscale_opt.rewriting.exports.Exported`."""

    @property
    def module(self) -> fx.GraphModule:
        """The module."""

    @property
    def example_inputs(self) -> tuple[Any, ...] | None:
        """The inputs that the export was made for, if known."""


@entrance()
def save_as(
    exported: Savable,
    path: str | Path,
    form: str = "pt2",
    example_inputs: torch.Tensor | Sequence[Any] | None = None,
    *,
    dynamic_batch: bool = True,
    verify: bool = True,
) -> None:
    """Write an export's module to a file that can be loaded without upscale_opt. The write is atomic.

    Parameters
    ----------
    exported
        The export. It is saved in eval mode, with its dtype and on its device.
    path
        The file.
    form
        ``pt2`` (`torch.export.load`), ``torchscript`` (`torch.jit.load`) or ``onnx`` (onnxruntime).
    example_inputs
        A tensor or the tuple of positional inputs. Default: the export's inputs, in the module's dtype.
    dynamic_batch
        Keep the first dimension variable, for every input with as many samples as the first input. If the network
        accepts images of any size, so does the file. Otherwise the file accepts only the shapes of the example inputs
        (TorchScript does not check this).
    verify
        Load the saved form and compare its outputs with the module's, at batch sizes 2, 1 and 3. ONNX in half precision
        is not compared, because onnxruntime lacks operators for it.

    Raises
    ------
    UpscaleError
        If the form does not exist, a package is missing, torch cannot convert the module to this form, or the path
        cannot be written.
    VerificationError
        If the outputs of the saved form differ.
    """
    content = to_bytes(exported, form, example_inputs, dynamic_batch=dynamic_batch, verify=verify)
    try:
        write_bytes_atomically(content, path)
    except ProblemError as error:
        raise UpscaleError(str(error)) from error


def to_bytes(
    exported: Savable,
    form: str,
    example_inputs: torch.Tensor | Sequence[Any] | None = None,
    *,
    dynamic_batch: bool = True,
    verify: bool = True,
) -> bytes:
    """The bytes that `save_as` writes."""
    require_forms([form])
    module, example = exported.module, _example(exported, example_inputs)
    with _evaluating(module):
        vectors = dynamic_batch and _run_at_all_sizes(module, Samples(example, dynamic_batch))
        batch = Samples(example, dynamic_batch, vectors=vectors)
        images = with_images(batch, _free_axes(exported)) if form != "torchscript" else None
        if images is not None and _runs(module, images.inputs(1, other_image=True)):
            try:
                return _content(module, form, images, verify=verify)
            except UpscaleError:
                pass  # torch, or the form, needs a fixed image size
        return _content(module, form, batch, verify=verify)


def _content(module: nn.Module, form: str, samples: Samples, *, verify: bool) -> bytes:
    make, load = _MAKERS[form], _LOADERS[form]
    with _keeping_buffers(module) as changed:
        checks = _checks(module, samples) if verify else []
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated. Both tracers warn about values that torch.fx leaves as constants.
            warnings.simplefilter("ignore")
            with _without_stack_traces():
                content = make(module, samples)
            loaded = load(content) if verify and (form != "onnx" or _dtype(module) in _ONNX_RUNS) else None
    except Exception as error:
        remedy = "; dynamic_batch=False asks for less" if samples.dynamic_batch else ""
        raise UpscaleError(f"torch cannot save this network as {form} ({first_line(error)}){remedy}") from error
    if loaded is not None:
        hint = ""
        if changed and form == "onnx":
            hint = f"; forward changes {', '.join(changed)}, and an ONNX file keeps nothing between calls"
        _require_same(loaded, checks, form, TOLERANCES.get(_dtype(module), TOLERANCES[torch.float32]), hint)
    return content


@dataclass(frozen=True, eq=False)
class _Check:
    """Inputs at a batch size, and their expected outputs."""

    size: int
    inputs: tuple[Any, ...]
    outputs: list[torch.Tensor]


def _free_axes(exported: Savable) -> frozenset[str]:
    """The axes of the inputs that the trace of an export leaves free. Empty if the trace is not known."""
    graph = getattr(exported, "graph", None)
    return frozenset(graph.validity.free) if graph is not None and graph.inputs else frozenset()


def _runs(module: nn.Module, inputs: tuple[Any, ...]) -> bool:
    """Whether a module accepts inputs."""
    try:
        with _keeping_buffers(module):
            module(*clones(inputs))
    except Exception:  # a network may raise anything
        return False
    return True


def _run_at_all_sizes(module: nn.Module, samples: Samples) -> bool:
    """Whether a module accepts all batch sizes. Only needed for inputs of shape (N,), which may be no batch."""
    if not any(x.ndim == 1 for x in nested_tensors(samples.example)):
        return True
    return all(_runs(module, samples.inputs(size)) for size in samples.sizes)


def _example(exported: Savable, given: torch.Tensor | Sequence[Any] | None) -> tuple[Any, ...]:
    """Example inputs on the module's device and in its dtype."""
    if given is None:
        given = exported.example_inputs
    if given is None:
        raise PlanError("the export does not say the shape of its inputs; give example_inputs")
    device = device_of(exported.module)
    dtype = _dtype(exported.module)

    def moved(x: torch.Tensor) -> torch.Tensor:
        wanted = dtype if x.is_floating_point() else x.dtype
        return torch.zeros_like(x, device=device, dtype=wanted) if x.is_meta else x.to(device, wanted)

    result: tuple[Any, ...] = map_tensors(moved, (given,) if isinstance(given, torch.Tensor) else tuple(given))
    return result


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put the module in eval mode without gradients. Restore its modes at the end."""
    modes = {child: child.training for child in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, mode in modes.items():
            child.training = mode


@contextmanager
def _keeping_buffers(module: nn.Module) -> Iterator[list[str]]:
    """Restore all buffers at the end (counters, running means). Yields a list that then names the changed buffers."""
    before = [(name, buffer, buffer.clone()) for name, buffer in module.named_buffers()]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, buffer, values in before:
            if not torch.equal(buffer, values):
                changed.append(name)
                buffer.copy_(values)


@contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Files have no paths of source files, and collecting them for every node takes a third of the time."""
    name = "do_not_emit_stack_traces"
    before = getattr(fx.config, name, None)
    if before is None:  # a version of torch that cannot leave them out
        yield
        return
    setattr(fx.config, name, True)
    try:
        yield
    finally:
        setattr(fx.config, name, before)


def _program(module: nn.Module, samples: Samples) -> torch.export.ExportedProgram:
    """The module as an exported program, without the example inputs and the paths of source files."""
    inputs = samples.inputs(samples.sizes[0])
    program = torch.export.export(module, inputs, dynamic_shapes=samples.dynamic_shapes())
    program.example_inputs = None
    for child in program.graph_module.modules():
        if isinstance(child, fx.GraphModule):
            for node in child.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _make_pt2(module: nn.Module, samples: Samples) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_program(module, samples), buffer)
    return buffer.getvalue()


def _make_torchscript(module: nn.Module, samples: Samples) -> bytes:
    buffer = io.BytesIO()
    with _keeping_buffers(module):  # tracing runs the module
        scripted = torch.jit.trace(module, samples.inputs(samples.sizes[0]), check_trace=False)
    torch.jit.save(scripted, buffer)
    return buffer.getvalue()


def _make_onnx(module: nn.Module, samples: Samples) -> bytes:
    with padded_writes(module):
        exported = _program(module, samples)
    program = torch.onnx.export(
        exported,
        dynamo=True,
        dynamic_shapes=samples.dynamic_shapes(named=True),  # only for the names of the dimensions
        external_data=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()


def _load_pt2(content: bytes) -> Callable[..., Any]:
    return torch.export.load(io.BytesIO(content)).module()


def _load_torchscript(content: bytes) -> Callable[..., Any]:
    return torch.jit.load(io.BytesIO(content))


def _load_onnx(content: bytes) -> Callable[..., Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: Any) -> list[torch.Tensor]:
        tensors = [x.cpu().numpy() for x in nested_tensors(inputs)]
        named = {spec.name: x for spec, x in zip(session.get_inputs(), tensors, strict=True)}
        return [torch.from_numpy(y) for y in session.run(None, named)]

    return run


_MAKERS = {"pt2": _make_pt2, "torchscript": _make_torchscript, "onnx": _make_onnx}
_LOADERS = {"pt2": _load_pt2, "torchscript": _load_torchscript, "onnx": _load_onnx}


def _checks(module: nn.Module, samples: Samples) -> list[_Check]:
    """Inputs of every batch size to try, with the module's outputs."""
    checks = []
    for size in samples.sizes:
        inputs = samples.inputs(size)
        try:
            checks.append(_Check(size, inputs, tensors(module(*clones(inputs)))))
        except Exception as error:
            raise UpscaleError(
                f"the network does not run at batch size {size} ({first_line(error)}); "
                "save it with dynamic_batch=False, or give other example_inputs"
            ) from error
    if samples.images:
        inputs = samples.inputs(1, other_image=True)
        checks.append(_Check(1, inputs, tensors(module(*clones(inputs)))))
    return checks


def _require_same(
    loaded: Callable[..., Any], checks: list[_Check], form: str, tolerance: float, hint: str = ""
) -> None:
    for check in checks:
        try:
            found = tensors(loaded(*clones(check.inputs)))
        except Exception as error:
            raise VerificationError(
                f"the export saved as {form} does not run at batch size {check.size} ({first_line(error)})"
            ) from error
        pairs = zip(found, check.outputs, strict=True)
        worst = max((relative_error(a.cpu().double(), b.cpu().double()) for a, b in pairs), default=0.0)
        if not worst <= tolerance:
            raise VerificationError(
                f"the export saved as {form} computes something else at batch size {check.size}: relative error "
                f"{worst:.1e} is above {tolerance:g}{hint}"
            )
