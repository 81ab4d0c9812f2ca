"""What a cell works on: the network, its example input, images to choose and repair with, and held-out images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from benchmarks.speedup.networks import IMAGENET_NETWORKS, TRAINED
from benchmarks.speedup.photos import crops, photos, split
from problems.files import write_bytes_atomically
from upscale_opt.learning.datasets import MNIST, load_data
from upscale_opt.learning.image_sets import Dataset
from upscale_opt.learning.loop import fit
from upscale_opt.learning.recipes import Recipe

TRAINING = Recipe(epochs=6)
GROUPS = 10
"""Groups of held-out images of MNIST. Of photos, every photo is a group."""
BATCH = 32


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with its images.

    Attributes
    ----------
    model
        The network in eval mode.
    x
        The example input.
    images
        Batches to choose and repair with, without labels.
    held_out
        Groups of batches of other images. Groups are independent: photos, or parts of a test set.
    alike
        The same for other crops of the photos in `images`; empty for networks that were trained here.
    data
        The images that the network was trained on; None for networks with ImageNet weights.
    """

    model: nn.Module
    x: torch.Tensor
    images: tuple[torch.Tensor, ...]
    held_out: tuple[tuple[Any, ...], ...]
    alike: tuple[tuple[Any, ...], ...] = ()
    data: Dataset | None = None


def subject_of(network: str, seed: int, batch: int, *, work: Path, num_images: int, image_size: int) -> Subject:
    """The subject of a network.

    Parameters
    ----------
    network, seed
        As in a cell.
    batch
        Images of the example input.
    work
        Directory of trained weights. What is missing is trained.
    num_images
        Images to choose and repair with. Of photos, it is rounded up to a multiple of the photos.
    image_size
        Size of the crops of photos, in pixels.

    Raises
    ------
    UpscaleError
        If a package with weights or images is missing. The message says what to install.
    """
    if network in IMAGENET_NETWORKS:
        return _with_photos(network, batch, num_images, image_size)
    data = load_data(MNIST)
    images = torch.cat([batch[0] for batch in data.sampled(num_images, seed=0)])
    tested = list(data.test_batches(len(data.test) // GROUPS))
    return Subject(
        trained(network, seed, data, work),
        _repeated(images, batch),
        images.split(BATCH),
        tuple((own,) for own in tested),
        data=data,
    )


def _with_photos(network: str, batch: int, num_images: int, image_size: int) -> Subject:
    factory, normalisation = IMAGENET_NETWORKS[network]
    used, others = split(photos())
    number = -(-num_images // len(used))
    how: dict[str, Any] = {"size": image_size, "normalisation": normalisation}
    images = torch.cat(crops(used, number, seed=0, **how))
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    return Subject(
        factory(),
        _repeated(images, batch),
        images.split(BATCH),
        tuple((own,) for own in crops(others, number, seed=1, **how)),
        tuple((own,) for own in crops(used, max(1, number // 2), seed=2, **how)),
    )


def trained(network: str, seed: int, data: Dataset, work: Path) -> nn.Module:
    """A network trained on a data set, in eval mode. Its weights are kept in ``work/weights``."""
    path = work / "weights" / f"{network}-{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TRAINED[network]().eval()
    if path.exists():
        model.load_state_dict(load_file(path))
        return model
    fit(model, data, [replace(TRAINING, seed=seed)], progress=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(save({name: own.contiguous() for name, own in model.state_dict().items()}), path)
    return model


def _repeated(images: torch.Tensor, batch: int) -> torch.Tensor:
    """The first images, as many as a batch has."""
    return images[torch.arange(batch) % len(images)].contiguous()
