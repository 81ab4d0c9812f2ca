"""What ``--help`` shows: commands in groups, two examples each, and options of rare use below the others."""

from __future__ import annotations

import copy
from typing import Annotated, Any, get_args

from rich.markup import escape
from typer.models import OptionInfo, ParameterInfo

_ORDER = "Order the channels of a network"
_MEASURE = "Measure"
_CHOOSE = "Choose masks and widths"
_TRAIN = "Train"
_LOOK = "Look"
_SWEEPS = "Many at once"
_RARE = "Advanced options"

GROUPS = {
    "solve": _ORDER,
    "compare": _ORDER,
    "export": _ORDER,
    "calibrate": _MEASURE,
    "profile": _MEASURE,
    "check": _MEASURE,
    "prune": _CHOOSE,
    "allocate": _CHOOSE,
    "speedup": _CHOOSE,
    "train": _TRAIN,
    "evaluate": _TRAIN,
    "show": _LOOK,
    "sweep": _SWEEPS,
}
"""Command to the group that it stands in; groups and commands in the order in which help shows them."""

EXAMPLES = {
    "solve": (
        "upscale-opt solve --model resnet50",
        "upscale-opt solve --model my_net.py:make --input-shape 1,3,32,32",
    ),
    "compare": (
        "upscale-opt compare --model resnet50 --amount 0.7",
        "upscale-opt compare --model resnet18 --objective copies --json all.json",
    ),
    "export": (
        "upscale-opt export --model resnet50 --export smaller",
        "upscale-opt export --plan smaller/plan.json --export again --format pt2",
    ),
    "calibrate": (
        "upscale-opt calibrate --model resnet50 --quick",
        "upscale-opt calibrate --model resnet50 --batch 8 --device cuda",
    ),
    "profile": (
        "upscale-opt profile --model resnet50",
        "upscale-opt profile --plan smaller/plan.json --accesses",
    ),
    "check": (
        "upscale-opt check --model resnet50",
        "upscale-opt check --model resnet50 --batch 8 --out predicted.png",
    ),
    "prune": (
        "upscale-opt prune --model resnet50 --amount 0.5 --out pruned",
        "upscale-opt prune --model resnet50 --importance lamp --scope global --out p",
    ),
    "allocate": (
        "upscale-opt allocate --model resnet50 --speedup 1.5 --out allocated",
        "upscale-opt allocate --model my_net.py:make --data my_data.py:load --speedup 2",
    ),
    "speedup": (
        "upscale-opt speedup 2 --model my_net.py:make --data my_data.py:load --out fast",
        "upscale-opt speedup 1.5 --model resnet50 --data PHOTOS --out fast",
    ),
    "train": (
        "upscale-opt train --model my_net.py:make --data digits --method none --out own",
        "upscale-opt train --model resnet50 --data PHOTOS --masks masks.json --out own",
    ),
    "evaluate": (
        "upscale-opt evaluate --model my_net.py:make --data digits",
        "upscale-opt evaluate --plan smaller/plan.json --data PHOTOS",
    ),
    "show": (
        "upscale-opt show --model resnet50 --out pictures",
        "upscale-opt show --model resnet50 --segment layer1.0.conv3",
    ),
    "sweep": (
        "upscale-opt sweep --models resnet18,resnet34 --amounts 0.3,0.5,0.7",
        "upscale-opt sweep report sweep.sqlite --out sweep.html",
    ),
}
"""Command to two command lines."""

_OF_MASKS = {"output_masks", "mode", "ignore", "round_to", "min_channels", "layer_amount", "profile", "scope"}
_OF_MEASURING = {"memory_format", "backend", "dtype", "tables", "table", "align", "repeats"}
_OF_SEARCHES = {"solver", "time_limit", "seed", "proof", "save_proof", "method", "trials", "rounds", "tune"}
_OF_SEARCHES |= {"gap", "target", "no_improvement", "work_limit", "log"}
_OF_SEARCHES |= {"reconstruction", "reestimate", "budget", "images", "workers"}
_OF_TRAINING = {"momentum", "weight_decay", "schedule", "warmup", "mixed_precision", "mask_lr", "gamma", "implicit"}
_OF_TRAINING |= {"partitions", "processes", "finetune_epochs", "distillation", "temperature", "dense", "distill"}
_OF_REPORTS = {"csv", "latex", "svg", "pdf", "pictures"}
RARE = frozenset(
    {*_OF_MASKS, *_OF_MEASURING, *_OF_SEARCHES, *_OF_TRAINING, *_OF_REPORTS, "forms", "verify", "front_end"}
)
"""Names of parameters that few users need."""
_NEEDED = {"train": {"method"}, "evaluate": {"dense"}, "speedup": {"images"}}
"""What many users of a command need although it is rare elsewhere."""


def page(command: str) -> dict[str, Any]:
    """Where a command stands in the help, and what its own help ends with, as `typer.Typer.command` takes it."""
    return {"rich_help_panel": GROUPS[command], "epilog": "\n\n".join(["Examples:", *EXAMPLES[command]])}


def placed(command: str, parameter: str, hint: Any) -> Any:
    """The type of a parameter as help shows it: brackets are kept, and options of rare use stand below the others."""
    kind, *details = get_args(hint)
    for i, detail in enumerate(details):
        if isinstance(detail, ParameterInfo):
            details[i] = copy.copy(detail)
            details[i].help = detail.help and escape(detail.help)
            if isinstance(detail, OptionInfo) and parameter in RARE - _NEEDED.get(command, set()):
                details[i].rich_help_panel = _RARE
    return Annotated[kind, *details]
