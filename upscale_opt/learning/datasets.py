"""Images for training, calibration and testing: scikit-learn's digits, or a folder in ImageNet's layout."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from upscale_opt.arguments.checks import a_path, whole
from upscale_opt.arguments.entrance import entrance
from upscale_opt.errors import LearningError, first_line
from upscale_opt.models.running import device_of, in_modes

DIGITS = "digits"
NUM_DIGITS_TO_TEST = 500
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESIZE, _CROP = 256, 224


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split into training images and test images.

    Attributes
    ----------
    name
        The name that was passed to `load_data`.
    train, test
        Indexable pairs of an image (float32 of shape `input_shape`) and its class number. `train` is None if there are
        only test images.
    num_classes
        Number of classes.
    input_shape
        Shape of one image: channels, height, width.
    workers
        Number of processes that load images. 0: the calling process.
    unaugmented
        The images of `train` with the test transform, for calibration. Default: `train` itself.
    """

    name: str
    train: Any
    test: Any
    num_classes: int
    input_shape: tuple[int, ...]
    workers: int = 0
    unaugmented: Any = None

    def __str__(self) -> str:
        learned = "none" if self.train is None else len(self.train)
        return f"{self.name}: {learned} images to learn from, {len(self.test)} to test, {self.num_classes} classes"

    def train_batches(self, batch_size: int, generator: torch.Generator) -> DataLoader[Any]:
        """The training images in batches, in a new order for each pass.

        Only the generator determines the order. Its state is enough to resume at the start of an epoch. If the last
        batch is not full, it is left out.

        Raises
        ------
        LearningError
            If there are no training images.
        """
        self._require_train()
        full = len(self.train) >= batch_size
        return DataLoader(
            self.train, batch_size, shuffle=True, generator=generator, drop_last=full, num_workers=self.workers
        )

    def test_batches(self, batch_size: int = 256) -> DataLoader[Any]:
        """The test images in batches, in order. This uses no numbers of torch's global generator."""
        return DataLoader(self.test, batch_size, num_workers=self.workers, generator=torch.Generator())

    def sampled(
        self, number: int, *, test: bool = False, seed: int = 0, batch_size: int = 32
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """A sample of the images in memory, as batches of images and labels, for calibration and for checks of it.

        Parameters
        ----------
        number
            How many images. If there are fewer, all of them.
        test
            Sample test images. Default: training images, without augmentation.
        seed
            Seed of the sample. Images are drawn without replacement.
        batch_size
            Images per batch.

        Raises
        ------
        LearningError
            If the number is not positive, or there are no training images.
        """
        if number < 1:
            raise LearningError(f"the number of images is {number}; give a whole number of at least 1")
        if not test:
            self._require_train()
        images = self.test if test else self.train if self.unaugmented is None else self.unaugmented
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:number].tolist()
        loader = DataLoader(
            Subset(images, chosen), batch_size, num_workers=self.workers, generator=torch.Generator().manual_seed(0)
        )
        return [(x, labels) for x, labels in loader]

    def _require_train(self) -> None:
        if self.train is None:
            raise LearningError(f"{self.name} has no images to learn from; put class folders into {self.name}/train")

    def require_fitting(self, model: nn.Module) -> None:
        """Raise an error unless the model accepts these images and has one output per class. The model is unchanged.

        Raises
        ------
        LearningError
            If the model does not fit.
        """
        shape = "x".join(map(str, self.input_shape))
        try:
            with in_modes(model, training=False), torch.no_grad():
                outputs = model(self.test[0][0][None].to(device_of(model)))
        except Exception as error:  # any error: an architecture may fail on images of another shape
            raise LearningError(
                f"the model cannot take the images of {self.name}, of shape {shape} ({first_line(error)}); choose a "
                "model made for that shape"
            ) from error
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
            raise LearningError("the model must return one tensor of shape (images, classes); wrap it in one that does")
        if outputs.shape[1] != self.num_classes:
            raise LearningError(
                f"the model has {outputs.shape[1]} outputs, but {self.name} has {self.num_classes} classes; give a "
                f"model with {self.num_classes} outputs"
            )


@entrance(name=a_path, workers=whole(0, LearningError))
def load_data(name: str | Path, *, workers: int = 0) -> Dataset:
    """Load images by name.

    Parameters
    ----------
    name
        ``digits``: scikit-learn's 1797 images of 8 x 8 pixels. 500 of them are for testing, always the same ones. Any
        other name is a folder with class folders in ``train`` and in ``val`` (or ``test``). If it has class folders
        only, these are test images. Classes are numbered in the order of their names.
    workers
        Processes that load the images of a folder.

    Raises
    ------
    LearningError
        If the folder does not exist, has no images, or has different classes in its parts, or if scikit-learn is
        missing.

    Notes
    -----
    The test transform for folders is the one of UPSCALE and others. The shorter side is resized to 256, then the
    central 224 x 224 pixels are taken. ImageNet's mean and deviation are used. Training images are cropped and flipped
    at random (`RandomResizedCrop`).
    """
    if workers < 0:
        raise LearningError(f"--workers is {workers}; give a number of processes from 0 on")
    return _digits() if str(name) == DIGITS else _folders(Path(name), workers)


def _digits() -> Dataset:
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise LearningError("the digits come with scikit-learn; run: pip install upscale-opt[experiments]") from error
    digits = datasets.load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = shuffled[:NUM_DIGITS_TO_TEST], shuffled[NUM_DIGITS_TO_TEST:]
    return Dataset(
        DIGITS, TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test]), 10, (1, 8, 8)
    )


def _folders(path: Path, workers: int) -> Dataset:
    if not path.is_dir():
        raise LearningError(f"there is no folder {path}; give digits, or a folder with class folders in train and val")
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
