"""The options of the command line: their types, help texts and meaning, and checks before any work starts."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from problems import objective_named, read_sparsity_profile
from problems.files import write_text_atomically
from upscale_opt.commands.values import MOST, MOST_SECONDS, MOST_SEED, nameable, real, whole
from upscale_opt.errors import UpscaleError
from upscale_opt.saving.forms import require_forms

MOST_PROCESSES = 1024
DTYPES = ("float32", "tf32", "float16", "bfloat16")
"""The names of `upscale_opt.models.precisions`. That module imports torch, so they are repeated here."""

Model = Annotated[str | None, typer.Option(help="A torchvision model, timm:NAME, or path/to/file.py:factory.")]
Weights = Annotated[str | None, typer.Option(help="DEFAULT, or the path of a checkpoint. [default: random weights]")]
Amount = Annotated[str, typer.Option(help="Share of input channels each convolution drops, in [0, 1).")]
Masks = Annotated[
    Path | None,
    typer.Option(
        help="File of masks: JSON, .safetensors, or a plan. Replaces --amount, --mode, --ignore.", callback=nameable
    ),
]
OutputMasks = Annotated[
    Path | None,
    typer.Option(
        help="File of masks of output channels, as prune --mode output writes it. Replaces --amount, --mode, --ignore; "
        "--masks may go with it.",
        callback=nameable,
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        help="Who is masked: input (every consumer by itself), constrained (consumers of a channel share one mask), "
        "output (every producer by itself), or both (consumers and producers)."
    ),
]
Ignore = Annotated[
    list[str],
    typer.Option(metavar="PATTERN", help="Leave weights or modules of this name alone (layer4.*); may repeat."),
]
RoundTo = Annotated[
    str,
    typer.Option(help="Round kept channels up to a multiple; auto, auto-nearest: to what is measured to be fast here."),
]
Align = Annotated[
    str,
    typer.Option(
        help="Store a few dropped channels where wider tensors are faster: auto (as measured by calibrate, for "
        "--objective latency), a multiple of channels, or off."
    ),
]
MinChannels = Annotated[int, typer.Option(help="Keep at least so many channels, where there are as many.")]
InputShape = Annotated[str, typer.Option(help="Shape of the example input, batch included.")]
Solvers = Annotated[
    list[str], typer.Option("--solver", help="Solver to compare with greedy; may repeat. One of those registered.")
]
ObjectiveName = Annotated[
    str | None,
    typer.Option("--objective", help="latency (default if calibrated), traffic (default else), copies, span or runs."),
]
TimeLimit = Annotated[
    float, typer.Option(help="Seconds per segment and solver.", callback=real(above=0, below=MOST_SECONDS))
]
Seed = Annotated[int, typer.Option(help="Seed of random weights and of the solvers.", callback=whole(0, MOST_SEED))]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write everything to this JSON file.", callback=nameable)]
Verify = Annotated[bool, typer.Option(help="Check every export against the masked model in float64.")]
Instance = Annotated[
    Path | None, typer.Option(help="Solve an instance file instead of a model; loads no torch.", callback=nameable)
]
PlanIn = Annotated[Path | None, typer.Option("--plan", help="A plan file saved before.", callback=nameable)]
PlanOut = Annotated[
    Path | None, typer.Option("--save-plan", help="Write the best solver's plan to this file.", callback=nameable)
]
ExportDirectory = Annotated[
    Path | None,
    typer.Option(
        "--export", help="Write the best export (plan and pruned weights) to this directory.", callback=nameable
    ),
]
Forms = Annotated[
    list[str],
    typer.Option("--format", help="Also save the export as pt2, torchscript or onnx; may repeat. Needs --export."),
]
Proof = Annotated[bool, typer.Option("--proof", help="Say what was proven and how, segment by segment.")]
ProofPath = Annotated[
    Path | None,
    typer.Option(
        "--save-proof",
        help="Write the proofs, with instances and orders, to this directory; or an instance's to a .json.",
        callback=nameable,
    ),
]
Accesses = Annotated[
    bool, typer.Option("--accesses", help="Profile every access of the planned export, hidden copies included.")
]
Batch = Annotated[int | None, typer.Option(help="Batch size instead of that of the input shape.", callback=whole(1))]
MemoryFormat = Annotated[
    str, typer.Option(help="contiguous or channels_last: the memory format of the models and of the input.")
]
DType = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="float32 (on a GPU without TF32), tf32, float16 or bfloat16: what models compute in when measured.",
    ),
]
Backend = Annotated[
    str | None,
    typer.Option(
        help="How models run when measured: eager, torchscript, cuda-graph, compile or onnxruntime. "
        "[default: eager on CPU, cuda-graph on CUDA]"
    ),
]
Tables = Annotated[
    Path | None,
    typer.Option(
        help="Directory of measured cost tables. [default: $UPSCALE_OPT_CACHE, or ~/.cache/upscale_opt]",
        callback=nameable,
    ),
]
ScatterPath = Annotated[
    Path | None, typer.Option("--out", help="Draw predicted against measured to this PNG file.", callback=nameable)
]
Repeats = Annotated[
    int | None, typer.Option(help="Figures per latency. [default: 10 on CPU, 100 on CUDA]", callback=whole(2))
]
Segment = Annotated[str | None, typer.Option(help="Only this segment.")]
MethodName = Annotated[str, typer.Option("--method", help="none, finetune, bip, cgap or pgap.")]
Scope = Annotated[str, typer.Option(help="local (the amount is of every layer) or global (of all layers together).")]
Epochs = Annotated[int, typer.Option(help="Passes over the images; of cgap and pgap, per step.", callback=whole(1))]
Rate = Annotated[float, typer.Option("--lr", help="Highest learning rate.", callback=real(above=0))]
Momentum = Annotated[float, typer.Option(help="Of stochastic gradient descent.", callback=real(least=0, below=1))]
Decay = Annotated[float, typer.Option("--weight-decay", help="Of stochastic gradient descent.", callback=real(least=0))]
BatchSize = Annotated[int, typer.Option(help="Images per step.", callback=whole(1))]
Schedule = Annotated[str, typer.Option(help="cosine or constant: the learning rate.")]
Warmup = Annotated[
    float, typer.Option(help="Epochs in which the learning rate grows, at first.", callback=real(least=0))
]
MixedPrecision = Annotated[bool, typer.Option("--mixed-precision", help="Run the model in bfloat16 where safe.")]
FinetuneEpochs = Annotated[
    int, typer.Option(help="Epochs that follow with fixed masks; of bip, cgap and pgap.", callback=whole(0))
]
MaskRate = Annotated[
    float, typer.Option("--mask-lr", help="Learning rate of the scores; of bip.", callback=real(above=0))
]
Gamma = Annotated[
    float, typer.Option(help="Weight of the lower level's regularisation; of bip.", callback=real(above=0))
]
Implicit = Annotated[bool, typer.Option(help="Have the implicit term of the gradient; of bip.")]
Partitions = Annotated[
    int, typer.Option(help="Parts that the network is cut into; of cgap and pgap.", callback=whole(1))
]
Rounds = Annotated[int, typer.Option(help="How often each part is dense; of cgap and pgap.", callback=whole(1))]
Processes = Annotated[
    int | None,
    typer.Option(
        help="Copies that are trained at a time; pgap; 0 = in this process. [default: all]",
        callback=whole(0, MOST_PROCESSES),
    ),
]
TrainDirectory = Annotated[
    Path | None,
    typer.Option("--out", help="Directory for checkpoint, weights, masks and log; needed.", callback=nameable),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training in the directory, if there is one.")]
LearntMasks = Annotated[
    Path | None,
    typer.Option(
        "--masks", help="File of masks to fine-tune under. Replaces --amount, --scope, --ignore.", callback=nameable
    ),
]
ImportanceName = Annotated[
    str,
    typer.Option("--importance", help="l1, l2, lamp, fpgm, hrank, taylor, fisher, ... (docs/masks.md) or your own."),
]
RankedMode = Annotated[
    str,
    typer.Option(
        "--mode",
        help="input (every consumer by itself), constrained (consumers of a channel agree) or output (every producer "
        "by itself).",
    ),
]
LayerAmounts = Annotated[
    list[str],
    typer.Option(
        metavar="PATTERN=AMOUNT", help="An amount of their own for layers of this name (layer4.*=0.7); may repeat."
    ),
]
ProfileIn = Annotated[
    Path | None,
    typer.Option(
        "--profile", help="A sparsity profile, as allocate writes it: amounts layer by layer.", callback=nameable
    ),
]
PruneDirectory = Annotated[
    Path | None, typer.Option("--out", help="Directory for masks and model.safetensors; needed.", callback=nameable)
]
Speedup = Annotated[
    float | None, typer.Option(help="How many times faster than the dense model, such as 1.5.", callback=real(above=0))
]
Target = Annotated[float, typer.Argument(help="How many times faster than now, such as 2.", callback=real(above=0))]
WidthMethod = Annotated[
    str,
    typer.Option(
        "--method",
        help="best (joint and windows, the one that is closer on held-out images), joint (all widths together, with a "
        "bound), windows (of residual streams, too), uniform, published methods on the same tables: halp, mdp; or spdy "
        "(input channels per layer, as `allocate`).",
    ),
]
WidthBudget = Annotated[str, typer.Option("--budget", help="What to save: time (measured), or macs (counted).")]
SpeedupImages = Annotated[
    int, typer.Option("--images", help="Images to choose and repair with, and as many held out.", callback=whole(2))
]
TuningEpochs = Annotated[
    int,
    typer.Option(
        "--epochs", help="Epochs of fine-tuning at the end, with the network as it was as teacher.", callback=whole(0)
    ),
]
SpeedupRounds = Annotated[
    int, typer.Option("--rounds", help="How often to choose, export and measure, at most.", callback=whole(1))
]
SpeedupDirectory = Annotated[
    Path | None,
    typer.Option("--out", help="Write the network and a report to this directory; resumes a run.", callback=nameable),
]
TimingTablePath = Annotated[
    Path | None,
    typer.Option("--table", help="A timing table in SPDY's format, instead of measuring one.", callback=nameable),
]
DenseLayers = Annotated[
    list[str],
    typer.Option("--ignore", metavar="PATTERN", help="Keep layers of this name dense (layer4.*); may repeat."),
]
AllocationMethod = Annotated[str, typer.Option("--method", help="dynamic-programme, cp-sat or milp; all are exact.")]
Reconstruction = Annotated[
    str, typer.Option(help="How weights are repaired: adaprune, or least-squares (exact, and mostly much faster).")
]
Trials = Annotated[
    int,
    typer.Option(help="Random coefficients tried, and failures in a row that end a search; 0 for none."),
]
Reestimate = Annotated[
    bool, typer.Option("--reestimate", help="Estimate BatchNorm statistics again before every loss; for high sparsity.")
]
TuningPasses = Annotated[
    int, typer.Option(help="Passes of global AdaPrune at the end; SPDY takes 100.", callback=whole(0))
]
ExportRounds = Annotated[
    int,
    typer.Option(
        "--rounds", help="How often to export and measure, solving again in between; 0 for never.", callback=whole(0)
    ),
]
AllocationDirectory = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write profile, masks, weights and times to this directory; resumes what is in it.",
        callback=nameable,
    ),
]
MEMORY_FORMATS = ("contiguous", "channels_last")
PictureDirectory = Annotated[Path, typer.Option("--out", help="Directory for the PNG files.", callback=nameable)]


def parse_shape(text: str) -> tuple[int, ...]:
    """Parse a shape such as ``1,3,224,224``.

    Raises
    ------
    UpscaleError
        If it is not a list of positive whole numbers.
    """
    parts = text.replace("x", ",").split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,10}\s*", part) and 0 < int(part) <= MOST for part in parts):
        raise UpscaleError(f"input shape {text!r} is not understood; write it like 1,3,224,224")
    return tuple(int(part) for part in parts)


def layer_amounts(given: Iterable[str], profile: Path | None) -> dict[str, float | str]:
    """Amounts for single layers: first those of a sparsity profile, then each ``PATTERN=AMOUNT``.

    Raises
    ------
    UpscaleError
        If a text does not have this form.
    ProblemError
        If the profile cannot be read.
    """
    amounts: dict[str, float | str] = {} if profile is None else dict(read_sparsity_profile(profile))
    for text in given:
        pattern, sign, amount = text.rpartition("=")
        if not sign or not pattern:
            raise UpscaleError(f"--layer-amount {text!r} is not understood; write it like layer4.*=0.7")
        amounts.pop(pattern, None)  # if several match a layer, the last one counts
        amounts[pattern] = amount
    return amounts


def require_settings(objective: str | None, time_limit: float) -> None:
    """Raise an error unless the objective, if there is one, exists and the time limit is positive."""
    if objective is not None:
        objective_named(objective)
    if not time_limit > 0:
        raise UpscaleError(f"--time-limit is {time_limit:g}; give a number of seconds above 0")


def require_dtype(name: str) -> None:
    """Raise `UpscaleError` unless this precision exists."""
    if name not in DTYPES:
        raise UpscaleError(f"there is no dtype {name!r}; choose one of {', '.join(DTYPES)}")


def settled_shape(shape: tuple[int, ...], batch: int | None, memory_format: str) -> tuple[int, ...]:
    """The input shape with the batch size of --batch, checked against the memory format.

    Raises
    ------
    UpscaleError
        If the batch size is not positive, or the memory format is unknown or does not fit the shape.
    """
    if memory_format not in MEMORY_FORMATS:
        raise UpscaleError(f"there is no memory format {memory_format!r}; choose from {', '.join(MEMORY_FORMATS)}")
    if batch is not None and batch < 1:
        raise UpscaleError(f"--batch is {batch}; give a number of samples from 1 on")
    shape = shape if batch is None else (batch, *shape[1:])
    if memory_format == "channels_last" and len(shape) != 4:
        written = ",".join(map(str, shape))
        raise UpscaleError(f"channels_last needs an input of 4 dimensions, not {written}; leave out --memory-format")
    return shape


def require_writable(*paths: Path | None) -> None:
    """Raise an error unless every output file can be written. Nothing is created."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise UpscaleError(f"cannot write {path}: it is a directory; name a file")
        if path.exists() and not path.is_file():
            continue  # devices and pipes are written directly
        _probe(path.parent, path)


def require_directory(path: Path | None) -> None:
    """Raise an error unless an output directory exists or can be created. It is created."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UpscaleError(f"cannot write to {path}: {error.strerror}; choose a writable directory") from error
    _probe(path, path)


def require_creatable(path: Path | None) -> None:
    """Raise an error unless a directory can be written or created. Nothing is created."""
    if path is None:
        return
    existing = next((own for own in (path, *path.absolute().parents) if own.exists()), path)
    if not existing.is_dir():
        raise UpscaleError(f"cannot write to {path}: {existing} is no directory; choose another")
    _probe(existing, path)


def require_export(forms: list[str], directory: Path | None) -> None:
    """As `require_directory`. Also raise an error unless the export can be saved in these forms."""
    if forms and directory is None:
        raise UpscaleError("--format needs a place to write to; add --export DIR")
    require_forms(forms)
    require_directory(directory)


def _probe(directory: Path, path: Path) -> None:
    try:
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UpscaleError(f"cannot write {path}: {error.strerror}; choose a writable path") from error


def write_json(document: dict[str, Any], path: Path | None) -> None:
    """Write the JSON document, if a path was given."""
    if path is not None:
        write_text_atomically(json.dumps(document, indent=1) + "\n", path)
