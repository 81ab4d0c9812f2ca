"""`torch.export` as a front end: captures a network, and lifts a program that a user has into a network."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from upscale_opt.capture.known_values import KnownValues
from upscale_opt.capture.traced_module import TracedModule, keep_persistence
from upscale_opt.capture.tracer import Tracing
from upscale_opt.lifting.groups import is_leaf
from upscale_opt.lifting.guards import add_conditions, conditions_of, hold_for, is_constant
from upscale_opt.lifting.lifter import Lifter
from upscale_opt.lifting.programs import Inputs, accepts, program_of
from upscale_opt.lifting.rebuilt import rebuilt
from upscale_opt.lifting.signatures import arguments_of_forward, arguments_of_program
from upscale_opt.models.attributes import attribute_of
from upscale_opt.models.nested import entries_of, is_record, map_tensors


def captured(model: nn.Module, inputs: Inputs) -> Tracing:
    """Capture a network by `torch.export`. The network is not changed and not run on real tensors.

    Parameters
    ----------
    model
        The network, in the mode to be captured.
    inputs
        The example inputs.

    Raises
    ------
    ModelError
        If `torch.export` refuses the network, or its program cannot be lifted.
    """
    arguments = arguments_of_forward(model, inputs)
    sizes = {
        place: x.shape for own in arguments if not own.is_left_out for place, x in _tensors_in(own.given, own.name)
    }
    program = program_of(model, inputs, lambda own: hold_for(conditions_of(own), sizes), is_leaf)
    modules = dict(model.named_modules(remove_duplicate=False))
    lifter = Lifter(program, arguments, modules.get, lambda name: _tensor_named(model, name))
    lifted = lifter.run()
    settled = add_conditions(
        lifted.graph, program, lifted.places, sizes, lambda axis: accepts(model, _doubled(inputs, axis))
    )
    module = _attached(model, lifted.graph, lifted.tensors)
    known = KnownValues(lambda name: attribute_of(module, name))
    for node in module.graph.nodes:
        known.add(node)
    return Tracing(module, known, (), settled)


_networks: WeakKeyDictionary[ExportedProgram, nn.Module] = WeakKeyDictionary()


def lifted(program: ExportedProgram) -> nn.Module:
    """Return a program of `torch.export` as a network with modules: convolutions, linear layers, normalisations.

    Its parameters and buffers are the program's own, under their names. The same program always gives the same network.

    Raises
    ------
    ModelError
        If the program has parts that have no place in a network.
    """
    if program not in _networks:
        _networks[program] = _network(program)
    return _networks[program]


def _network(program: ExportedProgram) -> nn.Module:
    arguments = arguments_of_program(program)
    tensors: dict[str, Any] = {**program.constants, **program.state_dict}
    named = {
        name: own for name, own in tensors.items() if isinstance(own, torch.Tensor) and "lifted_tensor" not in name
    }
    found = Lifter(program, arguments, lambda path: None, named.get).run()
    sizes = {
        place: torch.Size([int(own) if is_constant(own) else -1 for own in node.meta["val"].shape])
        for place, node in found.places.items()
    }
    network = rebuilt(program, found, sizes)
    network.eval()
    return network


def _attached(model: nn.Module, graph: fx.Graph, tensors: Any) -> TracedModule:
    """Return a module with this graph, which shares the submodules and tensors of a network."""
    constants = {name: own for name, own in tensors.items() if name.startswith("_tensor_constant")}
    vars(model).update(constants)  # torch.fx looks for them here
    try:
        module = TracedModule(model, graph)
    finally:
        for name in constants:
            del vars(model)[name]
    keep_persistence(model, module)
    return module


def _tensor_named(model: nn.Module, name: str) -> torch.Tensor | None:
    try:
        own = attribute_of(model, name)
    except AttributeError:
        return None
    return own if isinstance(own, torch.Tensor) else None


def _tensors_in(value: Any, place: str) -> list[tuple[str, torch.Tensor]]:
    """Return the tensors of a nested input by their places, as in `Lifted.places`."""
    place = place.lstrip("*")
    if isinstance(value, torch.Tensor):
        return [(place, value)]
    found = []
    for key, own in (entries_of(value) or {}).items():
        found += _tensors_in(own, f"{place}.{key}" if is_record(value) else f"{place}[{key!r}]")
    return found


def _doubled(inputs: Inputs, axis: int) -> Inputs:
    def longer(x: torch.Tensor) -> torch.Tensor:
        shape = [2 * n if i == axis else n for i, n in enumerate(x.shape)]
        return torch.empty(shape, dtype=x.dtype, device="meta")

    changed: Inputs = map_tensors(longer, inputs)
    return changed
