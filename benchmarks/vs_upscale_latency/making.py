"""Makes the files: one masked network, and every variant of it as a TorchScript trace per cell.

The masked network is written to a file, and every variant reads it. So all start from the same weights. The file is in
float32; exports are in the dtype of the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.latency.cells import QUICK, plan_path
from benchmarks.vs_upscale_latency.cells import FORMATS, MASKED, Cell, Subject
from benchmarks.vs_upscale_latency.processes import reason
from upscale_opt import (
    AnalyticCosts,
    ModelReference,
    effective_masks,
    export,
    l2_masks,
    load_model,
    masked_copy,
    read_plan,
    trace,
)
from upscale_opt.comparing.comparison import export_all
from upscale_opt.comparing.pruning import prepare
from upscale_opt.latency.backends import EAGER, TORCHSCRIPT
from upscale_opt.latency.calibration import calibrate
from upscale_opt.latency.measured_costs import MeasuredCosts
from upscale_opt.latency.readings import cheapest_readings
from upscale_opt.masking.input_masks import Masks
from upscale_opt.models.precisions import dtype_of, rescale
from upscale_opt.planning.solutions import each_solution
from upscale_opt.verifying.randomisation import random_inputs, randomise

WEIGHTS_FILE = "masked.pt"

Maker = Callable[[Cell, torch.Tensor], nn.Module]
"""A function from a cell and its input to the module that is traced."""


def make_masked(subject: Subject, directory: Path) -> Iterator[None]:
    """Write the masked network: weights masked per consumer, random BatchNorm statistics and biases, float32.

    With the statistics of an untrained network (mean 0, variance 1) a wrong export could look right. For float16,
    weights are rescaled so that the values of every layer fit.
    """
    model = _architecture(subject)
    images = _one_image(subject)
    graph = trace(model, images)
    masks = l2_masks(graph, subject.amount)
    axes = {weight: read.input_axis for weight, read in graph.consumers.items()}
    masked = masked_copy(model, masks, axes).double()
    generator = torch.Generator().manual_seed(subject.seed)
    randomise(masked, random_inputs((images,), generator), generator)
    if dtype_of(subject.dtype) is torch.float16:
        rescale(masked.float(), (images,))
    content = {
        "state": masked.float().state_dict(),
        "masks": {weight: torch.from_numpy(mask) for weight, mask in masks.items()},
    }
    torch.save(content, directory / WEIGHTS_FILE)
    yield None


def make(variant: str, subject: Subject, cells: Sequence[Cell], directory: Path) -> Iterator[str | None]:
    """Write the file of a variant for every cell. Yields None if the file was made, otherwise the reason."""
    dtype = subject.settle()
    content = torch.load(directory / WEIGHTS_FILE, weights_only=True)
    model = _architecture(subject)
    model.load_state_dict(content["state"])
    masks = {weight: mask.numpy() for weight, mask in content["masks"].items()}
    maker = MAKERS[variant](model, masks, subject)
    for cell in cells:
        try:
            images = cell.images()
            module: Any = maker(cell, images).eval().to(images.device, dtype)
            module = module.to(memory_format=FORMATS[cell.memory_format])
            with torch.no_grad():
                torch.jit.save(torch.jit.trace(module, images, check_trace=False), str(cell.file(directory, variant)))
        except Exception as error:
            yield reason(error)
        else:
            yield None


def _architecture(subject: Subject) -> nn.Module:
    shape = (1, 3, subject.image_size, subject.image_size)
    return load_model(ModelReference(subject.model, seed=subject.seed, input_shape=shape))


def _one_image(subject: Subject) -> torch.Tensor:
    """An image in float32 on the CPU."""
    return subject.images(1, "NCHW").cpu().float()


def _masked(model: nn.Module, masks: Masks, subject: Subject) -> Maker:
    return lambda cell, images: model


def _peers(model: nn.Module, masks: Masks, subject: Subject, *, is_not_ane: bool) -> Maker:
    """The peer's export as in its documentation: it finds the zero channels itself, and prunes in place.

    It runs on the CPU with one image, because its tracer repeats channels per image.
    """
    from upscale import PruningManager  # type: ignore[import-untyped,import-not-found,unused-ignore]

    PruningManager(model).compute([_one_image(subject)]).prune(is_not_ane=is_not_ane)
    return lambda cell, images: model


def _own(model: nn.Module, masks: Masks, subject: Subject, *, solver: str, objective: str, plan: str) -> Maker:
    """Our export: solved, or read from a file, for every cell, because costs and selections depend on the cell."""
    model = model.to(subject.device, subject.settle())

    def maker(cell: Cell, images: torch.Tensor) -> nn.Module:
        own = None if subject.plans is None else read_plan(_plan_path(cell, subject.plans, plan))
        graph = trace(model, images)
        settled = effective_masks(graph, masks)
        costs = None
        if objective == "latency":
            backend, effort = backend_of_tables(images.device.type), QUICK if subject.quick else None
            tables = calibrate(settled, (images,), backend=backend, effort=effort)
            costs = MeasuredCosts(tables, AnalyticCosts.for_device(images.device.type))
        prepared = prepare(model, images, settled, graph=graph, objective=objective, costs=costs)
        if own is not None:
            if costs is not None:
                own = cheapest_readings(own, prepared.problems, prepared.tables)[0]
            return export(model, images, own, graph=graph, verify=False).module
        solved = each_solution(
            prepared.problems, [solver], objective=objective, time_limit=subject.time_limit, seed=subject.seed
        )
        solutions = {segment: {name: result} for segment, name, result in solved}
        return export_all(prepared, solutions, [solver], verify=False)[solver].module

    return maker


def backend_of_tables(device: str) -> str:
    """The backend whose cost tables are used for the files.

    On a CPU it is eager mode: TorchScript saves the same time per operator in all ways to read. On a GPU it is
    TorchScript, because scripts have no fused gathers (`upscale_opt.GatherConv2d`).
    """
    return TORCHSCRIPT if device == "cuda" else EAGER


def _plan_path(cell: Cell, directory: Path, variant: str) -> Path:
    own = cell.subject
    of_model = (own.model, own.amount, own.seed, own.image_size)
    return plan_path(directory, *of_model, cell.batch, cell.memory_format, variant, dtype=own.dtype)


MAKERS: dict[str, Callable[[nn.Module, Masks, Subject], Maker]] = {
    MASKED: _masked,
    "peer-cat": partial(_peers, is_not_ane=False),
    "peer-index": partial(_peers, is_not_ane=True),
    "greedy-copies": partial(_own, solver="greedy", objective="copies", plan="greedy"),
    "auto-latency": partial(_own, solver="auto", objective="latency", plan="exact latency"),
}
"""Per variant, the function that makes its module from the masked network."""
