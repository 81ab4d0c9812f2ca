"""Data of one's own: what a function in a Python file returns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils import data
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from upscale_opt.arguments.checks import described
from upscale_opt.errors import LearningError, UpscaleError, first_line
from upscale_opt.learning.checkpoints import own_random_state, seed_everything
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.own_images import Images, Stream
from upscale_opt.models.python_files import function_in

BATCH_SIZE = 32
"""Images per batch of an `IterableDataset` that comes without a loader."""


def own_data(path: Path, function: str, workers: int = 0) -> Dataset:
    """Call a function and make a data set of what it returns. Only the first images are read.

    Parameters
    ----------
    path, function
        The file and the function. It is called without arguments, with all global random generators seeded by 0.
    workers
        Processes that load images, where single images can be loaded.

    Raises
    ------
    LearningError
        If there is no such function, it fails, or it returns something else.

    Notes
    -----
    The function returns a pair of loaders, to learn from and to test on, both with labels or both without (the first
    may be None); or one loader without labels. The first 3/4 of its images or batches are then for calibration, and the
    rest are held out. A loader is a map-style Dataset, a DataLoader, or any iterable of batches.

    Images of a Dataset are loaded when they are needed. So are those of a DataLoader with a Dataset behind it; only the
    Dataset is used, not its order. Batches of all other loaders are read once, in order, and stay in memory.
    """
    name = f"{path}:{function}"
    made = _made(path, function)
    if isinstance(made, list) and len(made) == 2 and all(isinstance(own, (DataLoader, data.Dataset)) for own in made):
        made = tuple(made)
    if isinstance(made, tuple):
        if len(made) != 2 or all(isinstance(own, torch.Tensor) for own in made):
            what = "two tensors" if len(made) == 2 else f"a tuple of {len(made)}"
            raise LearningError(f"{name} returned {what}; return a pair of loaders, or one loader of images")
        return _pair(made[0], made[1], name, workers)
    return _split(_readable(made, name), name, workers)


def _made(path: Path, function: str) -> Any:
    """The result of the function."""
    with own_random_state():
        seed_everything(0)
        called = function_in(path, function, "function", LearningError)
        try:
            return called()
        except UpscaleError:
            raise
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # not raised inside it
                raise LearningError(
                    f"{function}() in {path} cannot be called without arguments ({first_line(error)}); give every "
                    "argument a default"
                ) from error
            reason: Exception = error
        except Exception as error:  # any error: the code is of a user
            reason = error
        raise LearningError(
            f"{function}() in {path} failed ({type(reason).__name__}: {first_line(reason)})"
        ) from reason


def _pair(train: Any, test: Any, name: str, workers: int) -> Dataset:
    learning = None if train is None else _part(train, f"the first loader of {name}")
    testing = _part(test, name if train is None else f"the second loader of {name}")
    if learning is not None and len(learning[0]) != len(testing[0]):
        one, other = ("first", "second") if len(learning[0]) > 1 else ("second", "first")
        raise LearningError(
            f"the {one} loader of {name} has labels, and the {other} has none; give both or neither some"
        )
    if learning is not None and learning[0][0].shape != testing[0][0].shape:
        raise LearningError(
            f"images of the loaders of {name} have the shapes {tuple(learning[0][0].shape)} and "
            f"{tuple(testing[0][0].shape)}; give all images one shape"
        )
    streamed = any(own is not None and isinstance(own[1], Stream) for own in (learning, testing))
    return Dataset(
        name,
        None if learning is None else learning[1],
        testing[1],
        None,
        tuple(testing[0][0].shape),
        0 if streamed else workers,
        labelled=len(testing[0]) > 1,
    )


def _part(loader: Any, name: str) -> tuple[tuple[torch.Tensor, ...], Any]:
    """The first item of a loader, and all items."""
    loader = _readable(loader, name)
    if _is_indexable(loader):
        images: Any = Images(loader, name, range(len(loader)))
        if not len(images):
            raise LearningError(f"{name} has no images; give at least one")
    else:
        images = Stream(loader, name, _extent(_length(loader)))
        if not images.read(1):
            raise LearningError(f"{name} has no images; give at least one batch")
    return images[0], images


def _readable(loader: Any, name: str) -> Any:
    """What the images are read from: a map-style dataset, or an iterable of batches."""
    if isinstance(loader, torch.Tensor):
        return [loader]
    if isinstance(loader, DataLoader):
        return loader.dataset if _is_plain(loader) else loader
    if isinstance(loader, data.IterableDataset):
        return DataLoader(loader, BATCH_SIZE)
    if _is_indexable(loader) or (isinstance(loader, Iterable) and not isinstance(loader, (str, bytes, Mapping))):
        return loader
    raise LearningError(
        f"{name} is {described(loader)}; return a pair of loaders, to learn from and to test on, or one loader of "
        "images without labels"
    )


def _is_indexable(loader: Any) -> bool:
    """Whether it is a map-style dataset. A list is one of batches."""
    listed = isinstance(loader, (list, tuple, str, bytes, Mapping, torch.Tensor))
    return not listed and hasattr(loader, "__getitem__") and hasattr(loader, "__len__")


def _is_plain(loader: DataLoader[Any]) -> bool:
    """Whether a DataLoader makes batches of all images of a map-style dataset, without any change."""
    sampler = loader.sampler
    all_of_them = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(sampler)
    )
    return (
        all_of_them
        and _is_indexable(loader.dataset)
        and loader.batch_size is not None
        and loader.collate_fn is default_collate
    )


def _length(loader: Any) -> int | None:
    """The number of batches, or None for an iterator and for a DataLoader of one."""
    try:
        return len(loader)
    except TypeError:
        return None


def _extent(number: int | None) -> str:
    return "a stream" if number is None else "1 batch" if number == 1 else f"{number} batches"


def _split(loader: Any, name: str, workers: int) -> Dataset:
    """Images without labels for calibration, and the others held out.

    Batches are split if their number is known and at least four, else images. An iterable is passed through once, since
    a second pass may have another order.
    """
    train: Any
    test: Any
    number, what = _length(loader), "images"
    if _is_indexable(loader):
        (first, _), used = _part(loader, name), 3 * len(loader) // 4
        train = Images(loader, name, range(used), first)
        test = Images(loader, name, range(used, len(loader)), first)
    elif number is not None and number >= 4:
        what, used = "batches", 3 * number // 4
        ones, others = itertools.tee(itertools.chain.from_iterable((loader,)))
        train = Stream(itertools.islice(ones, used), name, _extent(used))
        test = Stream(itertools.islice(others, used, None), name, _extent(number - used), used)
        first = train[0]
    else:
        first, images = _part(loader, name)
        number = len(images)
        used = 3 * number // 4
        train, test = ([images[i] for i in own] for own in (range(used), range(used, number)))
    if len(first) > 1:
        raise LearningError(f"{name} returned one loader with labels; return two, to learn from and to test on")
    if number is None or number < 2:
        raise LearningError(f"{name} has one image; give at least two, one for calibration and one to hold out")
    note = f"the first {used} of {number} {what} of {name} are for calibration, the rest are held out"
    shape, processes = tuple(first[0].shape), workers if isinstance(train, Images) else 0
    return Dataset(name, train, test, None, shape, processes, labelled=False, notes=(note,))
