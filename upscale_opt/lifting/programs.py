"""Runs `torch.export` on a network: with free sizes where the network allows it, and without changing the network."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from upscale_opt.capture.custom_functions import refused_functions
from upscale_opt.capture.examples import device_of_all
from upscale_opt.capture.hooks import has_backward_hooks
from upscale_opt.capture.source_lines import place_of_error
from upscale_opt.errors import ModelError, first_line
from upscale_opt.models.nested import map_tensors, nested_tensors
from upscale_opt.models.preservation import unchanged

Inputs = tuple[Any, ...]
_AUTO = torch.export.Dim.AUTO
_OF_SIZES = ("aten.sym_", "aten._assert", "aten.scalar_tensor", "aten.alias")
"""Operators that only exist because sizes are free."""
MOST_OF_A_REASON = 200
"""Characters of an error of `torch.export` that a message quotes."""


def program_of(
    model: nn.Module, inputs: Inputs, holds: Callable[[ExportedProgram], bool], is_leaf: Callable[[nn.Module], bool]
) -> ExportedProgram:
    """Return the program of a network for inputs of these shapes.

    Sizes of the inputs are free where the network does not ask about them. A single sample is given twice, because
    `torch.export` takes sizes of one for constants. A free size is a symbol, and code that makes a text of it
    (``getattr(self, f"at_{x.shape[-1]}")``) goes another way without a word. So a program with free sizes must have
    the operators of the one with fixed sizes.

    Parameters
    ----------
    model
        The network, in eval or training mode. It is not changed.
    inputs
        The example inputs. Their values do not matter.
    holds
        Says whether a program, which may be of other inputs, holds for these.
    is_leaf
        Says whether a module is kept as one operator.

    Raises
    ------
    ModelError
        If `torch.export` refuses the network, or would lose its backward pass.
    """
    _require_plain_backward(model, is_leaf)
    device = device_of_all(model, inputs) or torch.device("cpu")
    given: Inputs = map_tensors(lambda x: torch.zeros(x.shape, dtype=x.dtype, device=device), inputs)
    first: Exception | None = None
    for example, axes in _attempts(model, given):
        try:
            program = _exported(model, example, axes)
        except ModelError:
            raise
        except Exception as error:  # torch.export and the network may raise anything
            first = first or error
            if "data-dependent" in str(error):
                break
            continue
        if not axes(0) or ((example is given or holds(program)) and _is_of_fixed_sizes(program, model, given)):
            return program
    assert first is not None
    raise ModelError(f"torch.export refuses {type(model).__name__}: {reason_of(first)}") from first


def reason_of(error: Exception) -> str:
    """Return the first line of an error of `torch.export`, shortened, with the source line of the network."""
    text = first_line(error)
    text = text if len(text) <= MOST_OF_A_REASON else f"{text[:MOST_OF_A_REASON].rstrip()} ..."
    place = place_of_error(error)
    return text if place is None else f"{text} (in {place})"


def _attempts(model: nn.Module, given: Inputs) -> Iterator[tuple[Inputs, Callable[[int], bool]]]:
    """Yield inputs, and which of their axes may be free: as many as possible first."""
    tensors = list(nested_tensors(given))
    if all(x.ndim and x.shape[0] == 1 for x in tensors):
        two: Inputs = map_tensors(lambda x: x.expand(2, *x.shape[1:]).contiguous(), given)
        if _operators(model, given) == _operators(model, two):
            yield two, lambda axis: True
            yield two, lambda axis: axis == 0
    yield given, lambda axis: True
    yield given, lambda axis: False


def _is_of_fixed_sizes(program: ExportedProgram, model: nn.Module, given: Inputs) -> bool:
    """Whether a program with free sizes has the operators, on the same tensors, that it has with fixed sizes."""
    try:
        fixed = _exported(model, given, lambda axis: False)
    except Exception:  # there is nothing to compare with
        return True
    return _work_of(program) == _work_of(fixed)


def _work_of(program: ExportedProgram) -> Counter[tuple[str, ...]]:
    """Count the operators of a program that compute, each with the parameters and buffers that it is given.

    Views are left out: slices that take everything are there only if sizes are free.
    """
    own = {spec.arg.name: str(spec.target) for spec in program.graph_signature.input_specs if spec.target is not None}
    found: Counter[tuple[str, ...]] = Counter()
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            name = str(node.target)
            computes = isinstance(node.target, torch._ops.OpOverload) and not node.target.is_view
            if computes and not name.startswith(_OF_SIZES):
                found[(name, *(own[x.name] for x in node.all_input_nodes if x.name in own))] += 1
    return found


def _exported(model: nn.Module, inputs: Inputs, is_free: Callable[[int], bool]) -> ExportedProgram:
    def axes(x: Any) -> dict[int, Any] | None:
        if not isinstance(x, torch.Tensor):
            return None
        return {axis: _AUTO for axis in range(x.ndim) if is_free(axis)} or None

    named = inspect.signature(model.forward).bind(*inputs).arguments
    shapes = pytree.tree_map(axes, dict(named)) if is_free(0) else None
    with unchanged(model), _refused_functions(), torch.enable_grad(), _quietly(), _FreshResults():
        return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)


@contextmanager
def _quietly() -> Iterator[None]:
    """Drop what `torch.export` prints: its errors are raised, too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _refused_functions() -> Iterator[None]:
    """Refuse custom autograd functions, whose backward `torch.export` would lose."""

    def refuse(function: Any) -> None:
        if function.__module__.startswith("torch._"):  # torch.export itself applies these
            return
        raise ModelError(
            f"torch.export loses the backward pass of the autograd function {function.__name__}; trace the network "
            "with front_end='fx'"
        )

    with refused_functions(refuse):
        yield


def _require_plain_backward(model: nn.Module, is_leaf: Callable[[nn.Module], bool]) -> None:
    inside: set[nn.Module] = set()
    for path, module in model.named_modules():
        if module in inside:
            continue
        if is_leaf(module):
            inside.update(module.modules())
        elif has_backward_hooks(module):
            raise ModelError(f"torch.export loses the backward hooks of {path or 'the network'}; remove them")


class _FreshResults(TorchFunctionMode):
    """Gives a view to functions that may return their argument itself.

    `torch.export` knows a tensor by its last producer. In eval mode, dropout returns its argument. So other uses of
    this argument would get the result of dropout, which matters in training.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if "dropout" in getattr(func, "__name__", "") and args and isinstance(args[0], torch.Tensor):
            args = (torch.ops.aten.alias.default(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


class _Names(TorchFunctionMode):
    """Notes which functions of torch are called."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.found.append(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


def _operators(model: nn.Module, inputs: Inputs) -> list[str] | None:
    """Return the names of the functions that a network calls for inputs of these shapes. None if that is not known."""
    named = (*model.named_parameters(), *model.named_buffers())
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    try:
        with unchanged(model), torch.no_grad(), torch.device("meta"), _Names() as names:
            torch.func.functional_call(model, state, map_tensors(lambda x: x.to("meta"), inputs))
    except Exception:  # an operator may need values; then one sample counts as any other number of them
        return None
    return names.found


def accepts(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a network runs on inputs of these shapes, as far as meta tensors tell."""
    return _operators(model, inputs) is not None
