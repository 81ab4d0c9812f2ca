"""The command `allocate`: chooses a sparsity per layer for a target speedup (SPDY)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from problems import read_timing_table
from solvers import ALLOCATION_METHODS, SolverError
from upscale_opt.arguments.modes import AUTO
from upscale_opt.commands import data_options, options, spreading
from upscale_opt.commands.measuring import Measuring
from upscale_opt.commands.sessions import load_model_and_input, remark, required_model, say
from upscale_opt.errors import MaskError, UpscaleError

if TYPE_CHECKING:
    from upscale_opt.learning.datasets import Dataset
    from upscale_opt.spdy.calibration_data import CalibrationData

DEFAULT_SHAPE = "1,3,224,224"
DEFAULT_MEASURING = Measuring()
RANDOM = "random"
MOST_IMAGES = 1024
RANDOM_IMAGES = 256
_OF_DENSE = (
    "labelled by the dense model: losses say how far the model strays from the dense one, not how accurate it is"
)


def allocate(
    model: options.Model = None,
    speedup: options.Speedup = None,
    weights: options.Weights = None,
    input_shape: options.InputShape = DEFAULT_SHAPE,
    data: data_options.CalibrationImages = RANDOM,
    images: data_options.NumImages = None,
    workers: data_options.Workers = 0,
    table: options.TimingTablePath = None,
    ignore: options.DenseLayers = (),  # type: ignore[assignment]
    method: options.AllocationMethod = "dynamic-programme",
    reconstruction: options.Reconstruction = "adaprune",
    trials: options.Trials = 100,
    reestimate: options.Reestimate = False,
    tune: options.TuningPasses = 0,
    rounds: options.ExportRounds = 2,
    time_limit: options.TimeLimit = 5.0,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    measuring: Measuring = DEFAULT_MEASURING,
    repeats: options.Repeats = None,
    out: options.AllocationDirectory = None,
    json: options.JsonPath = None,
) -> None:
    """Choose a sparsity per layer to reach a speedup; repair the weights, export, and measure."""
    name = required_model(model)
    if speedup is None:
        raise UpscaleError("give --speedup: how many times faster than the dense model, such as 1.5")
    if images is not None and images < 2:
        raise MaskError(f"--images is {images}; give at least 2")
    if data == RANDOM:
        spreading.refuse(("workers",), "random images are not loaded")
    loaded = None if data == RANDOM else data_options.loaded(data, workers)
    if method not in ALLOCATION_METHODS:
        raise SolverError(f"there is no method {method!r}; choose one of {', '.join(ALLOCATION_METHODS)}")
    options.require_settings("latency", time_limit)
    options.require_writable(json)
    options.require_creatable(out)
    times = None if table is None else read_timing_table(table)
    from upscale_opt.latency.environment import environment
    from upscale_opt.models.references import ModelReference
    from upscale_opt.spdy import allocation
    from upscale_opt.spdy.choices import CoefficientSearch
    from upscale_opt.spdy.global_adaprune import Tuning
    from upscale_opt.spdy.outer_rounds import Exporting
    from upscale_opt.spdy.reconstructions import Repair

    repair = Repair(reconstruction, seed=seed)
    search = CoefficientSearch(trials, trials, method=method, seed=seed)
    tuning = Tuning(tune, seed=seed) if tune else None
    shape = measuring.shape(options.parse_shape(input_shape))
    if measuring.align != AUTO:
        raise UpscaleError("allocate chooses amounts, not stored widths; leave out --align")
    if measuring.dtype != "float32":
        raise UpscaleError("weights are repaired in float32; leave out --dtype")
    network, x, notes = load_model_and_input(
        ModelReference(name, weights, seed, shape), device, measuring.memory_format, measuring.dtype
    )
    remark(notes)
    calibration, held_out, about = _images(loaded, network, shape, images, seed)
    document: dict[str, Any] = {
        "model": name,
        "input_shape": list(shape),
        "data": data,
        "images": images,
        "method": method,
    }
    document |= {
        "reconstruction": reconstruction,
        "trials": trials,
        "reestimate": reestimate,
        "tune": tune,
        "seed": seed,
    }
    document |= {"environment": environment()}
    try:
        found = allocation.allocate(
            network,
            x,
            calibration,
            speedup,
            table=times,
            ignore=list(ignore),
            repair=repair,
            search=search,
            tuning=tuning,
            reestimate=reestimate,
            rounds=rounds,
            how=Exporting(
                time_limit=time_limit,
                seed=seed,
                costs=measuring.costs(x),
                backend=measuring.backend_on(device),
                repeats=repeats,
            ),
            held_out=held_out,
            directory=out,
            tables=measuring.directory,
            seed=seed,
            progress=True,
        )
    except KeyboardInterrupt:
        kept = f"what was done is in {out}, go on with the same command" if out else "nothing is kept without --out"
        print(f"interrupted; {kept}", file=sys.stderr)
        options.write_json({**document, "interrupted": True}, json)
        raise
    remark(found.notes)
    say(about)
    say(str(found))
    if out is not None:
        found.save(out)
        say(f"profile, masks, weights and times: {out}")
    options.write_json(document | found.to_dict(), json)


def _images(
    data: Dataset | None, network: Any, shape: tuple[int, ...], images: int | None, seed: int
) -> tuple[Any, Any, str]:
    """Batches for calibration, held-out batches, and a message about both."""
    if data is not None:
        data.require_fitting(network)
        if shape[1:] != data.input_shape:
            own = ",".join(map(str, (shape[0], *data.input_shape)))
            raise MaskError(
                f"times are measured at the shape of the images, not at {','.join(map(str, shape))}; give "
                f"--input-shape {own}, or --data {RANDOM}"
            )
        used, rest = (data.sampled(images or MOST_IMAGES, test=test, seed=seed) for test in (False, True))
        numbers = [sum(len(batch[0]) for batch in part) for part in (used, rest)]
        if data.labelled:
            about = f"{numbers[0]} images of {data.name} for calibration, {numbers[1]} of those to test held out"
            return used, rest, about
        about = f"{numbers[0]} images of {data.name} for calibration and {numbers[1]} held out, {_OF_DENSE}"
        return _labelled(network, used), _labelled(network, rest), about
    number = images or RANDOM_IMAGES
    others = max(1, number // 4)
    about = f"{number} random images for calibration and {others} more held out, {_OF_DENSE}"
    return _noise(network, shape, number, seed), _noise(network, shape, others, seed + 1), about


def _labelled(network: Any, batches: Any) -> CalibrationData:
    """Images with the dense model's labels."""
    from upscale_opt.spdy.calibration_data import calibration_data

    return calibration_data(batches, network).labelled_by(network)


def _noise(network: Any, shape: tuple[int, ...], number: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """One batch of random images with the dense model's labels. It is made on first use."""
    from upscale_opt.spdy.calibration_data import random_data

    data = random_data(network, shape, num_images=number, seed=seed)
    yield data.inputs[0], data.labels
