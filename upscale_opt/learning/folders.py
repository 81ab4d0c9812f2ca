"""Pictures in folders: in ImageNet's layout, with one folder per class, or without classes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils import data

from upscale_opt.errors import LearningError, first_line
from upscale_opt.learning.image_sets import Dataset

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESIZE, _CROP = 256, 224


class Pictures(data.Dataset[Any]):
    """Picture files without labels.

    Parameters
    ----------
    files
        The files.
    transform
        Makes a tensor of an image.
    """

    def __init__(self, files: list[Path], transform: Callable[..., Any]) -> None:
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        return (self._transform(_image(str(self._files[index]))),)


def folder_data(path: Path, workers: int) -> Dataset:
    """The pictures of a folder; see `upscale_opt.learning.datasets.load_data`.

    Raises
    ------
    LearningError
        If the folder has no pictures, or has different classes in its parts.
    """
    if not any(own.is_dir() for own in path.iterdir()):
        return _without_classes(path, workers)
    test = next((path / part for part in ("val", "test") if (path / part).is_dir()), None)
    train = path / "train" if (path / "train").is_dir() else None
    if test is None and train is not None:
        raise LearningError(f"{path} has no images to test on; put class folders into {path}/val")
    testing = _folder(test or path, _evaluation_transform())
    training = None if train is None else _folder(train, _training_transform())
    if training is not None and training.classes != testing.classes:
        odd = sorted(set(training.classes) ^ set(testing.classes))
        raise LearningError(
            f"{train} has {len(training.classes)} classes and {test} {len(testing.classes)}, only one of them has "
            f"{odd[0]!r}; give both the same class folders"
        )
    plain = None if train is None else _folder(train, _evaluation_transform())
    return Dataset(str(path), training, testing, len(testing.classes), (3, _CROP, _CROP), workers, plain)


def _without_classes(path: Path, workers: int) -> Dataset:
    """Pictures without labels. A file is either for calibration or held out."""
    is_picture = _torchvision("datasets.folder").is_image_file
    files = sorted(own for own in path.iterdir() if own.is_file() and is_picture(own.name))
    if len(files) < 2:
        number = "no pictures" if not files else "one picture"
        raise LearningError(f"{path} holds {number}; give it one folder per class, or at least two pictures")
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    used = 3 * len(files) // 4
    chosen = [[files[i] for i in sorted(own)] for own in (order[:used], order[used:])]
    train, test = (Pictures(own, _evaluation_transform()) for own in chosen)
    note = f"{used} of {len(files)} pictures of {path}, drawn at random, are for calibration, the rest are held out"
    return Dataset(str(path), train, test, None, (3, _CROP, _CROP), workers, labelled=False, notes=(note,))


def _folder(path: Path, transform: Callable[..., Any]) -> Any:
    try:
        return _torchvision("datasets").ImageFolder(str(path), transform, loader=_image)
    except (FileNotFoundError, RuntimeError) as error:
        raise LearningError(f"{path} holds no images ({first_line(error)}); give it one folder per class") from error


def _image(path: str) -> Any:
    """Read an image from a file, in colour."""
    try:
        return _torchvision("datasets.folder").default_loader(path)
    except OSError as error:
        raise LearningError(f"{path} cannot be read as an image; repair or remove it") from error


def _evaluation_transform() -> Any:
    transforms = _torchvision("transforms")
    crop = [transforms.Resize(_RESIZE), transforms.CenterCrop(_CROP)]
    return transforms.Compose([*crop, *_normalised(transforms)])


def _training_transform() -> Any:
    transforms = _torchvision("transforms")
    crop = [transforms.RandomResizedCrop(_CROP), transforms.RandomHorizontalFlip()]
    return transforms.Compose([*crop, *_normalised(transforms)])


def _normalised(transforms: Any) -> list[Any]:
    return [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_DEVIATION)]


def _torchvision(part: str) -> Any:
    from upscale_opt.models.loading import import_torchvision

    import_torchvision()
    return importlib.import_module(f"torchvision.{part}")
