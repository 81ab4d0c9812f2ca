"""Photos from installed packages, as crops: ``--data benchmarks/speedup/photos.py:loader``.

The photos are read where the packages are installed; nothing is copied. They have no labels. Crops for calibration and
held-out crops come from different photos, because crops of one photo are too alike to test on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from upscale_opt.errors import LearningError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the channels."""
PACKAGES = {
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "matplotlib": ("mpl-data/sample_data", ("grace_hopper.jpg",)),
    "skimage": (
        "data",
        (
            *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png"),
            *("motorcycle_left.png", "rocket.jpg"),
        ),
    ),
    "foolbox": ("data", ("imagenet_*.jpg",)),
}
"""Per package: the folder in it, and its photos. Pictures of the same scene, drawings and microscopy are left out."""
INSTALL = "pip install scikit-learn matplotlib scikit-image, and pip install --no-deps foolbox==3.3.4"
LEAST = 4
"""Photos that are needed."""
EVERY = 3
"""One in so many photos is held out."""
CROPS = 8
"""Crops of every photo."""
SIZE = 224


def loader() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Two loaders without labels, to calibrate on and held out: 224 x 224 crops, normalised for ImageNet."""
    used, held_out = split(photos())
    return tuple(  # type: ignore[return-value]
        DataLoader(TensorDataset(torch.cat(crops(own, seed=seed))), batch_size=32)
        for seed, own in enumerate((used, held_out))
    )


def package_folder(package: str) -> Path | None:
    """Where a package is installed; None if it is not. It is not imported."""
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or []) if found is not None else []
    return Path(places[0]) if places else None


def photos() -> list[Path]:
    """The photos of all installed packages, in a fixed order.

    Raises
    ------
    LearningError
        If there are fewer than `LEAST`.
    """
    found: list[Path] = []
    for package, (folder, names) in PACKAGES.items():
        root = package_folder(package)
        if root is not None:
            found += [path for name in names for path in sorted((root / folder).glob(name))]
    if len(found) < LEAST:
        raise LearningError(f"only {len(found)} photos are installed; run: {INSTALL}")
    return found


def split(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Photos to calibrate on, and photos to hold out.

    Examples
    --------
    >>> used, held_out = split([Path(name) for name in "abcdef"])
    >>> [own.name for own in used], [own.name for own in held_out]
    (['a', 'b', 'd', 'e'], ['c', 'f'])
    """
    held_out = list(paths[EVERY - 1 :: EVERY])
    return [own for own in paths if own not in held_out], held_out


def crops(
    paths: Sequence[Path],
    number: int = CROPS,
    *,
    size: int = SIZE,
    seed: int = 0,
    normalisation: tuple[Sequence[float], Sequence[float]] = IMAGENET,
) -> list[torch.Tensor]:
    """Random crops of every photo, flipped at random; float32 of shape (number, 3, size, size) per photo.

    Parameters
    ----------
    paths
        The photos.
    number
        Crops per photo.
    size
        Pixels.
    seed
        Seed of the crops.
    normalisation
        Mean and deviation of the three channels.

    Notes
    -----
    A crop has a quarter to all of the photo's shorter side squared, and a square shape.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = (torch.tensor(own).reshape(3, 1, 1) for own in normalisation)
    return [(_crops(_pixels(path), number, size, generator) - mean) / deviation for path in paths]


def _pixels(path: Path) -> torch.Tensor:
    """A photo, float32 in [0, 1], shape (3, height, width)."""
    from PIL import Image

    with Image.open(path) as photo:
        return torch.from_numpy(np.array(photo.convert("RGB"), dtype=np.float32) / 255).permute(2, 0, 1)


def _crops(photo: torch.Tensor, number: int, size: int, generator: torch.Generator) -> torch.Tensor:
    height, width = photo.shape[1:]
    found = []
    for _ in range(number):
        area, y, x, flip = torch.rand(4, generator=generator).tolist()
        side = max(1, round(min(height, width) * (0.25 + 0.75 * area) ** 0.5))
        top, left = int(y * (height - side + 1)), int(x * (width - side + 1))
        own = photo[None, :, top : top + side, left : left + side]
        own = functional.interpolate(own, (size, size), mode="bilinear", antialias=True)
        found.append(own.flip(-1) if flip < 0.5 else own)
    return torch.cat(found).clamp(0, 1)
