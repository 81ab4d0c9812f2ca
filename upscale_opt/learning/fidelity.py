"""How far a network is from the dense one on images: with labels or without."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from upscale_opt.arguments.checks import described, parts_of
from upscale_opt.arguments.entrance import RUNNABLE, entrance
from upscale_opt.arguments.entrance import batches as a_series
from upscale_opt.errors import LearningError, first_line
from upscale_opt.learning.evaluation import Accuracy, Scores
from upscale_opt.models.running import device_of, in_modes


@dataclass(frozen=True)
class Fidelity:
    """The comparison of a network with the dense one.

    Attributes
    ----------
    images
        Number of images.
    kl, kl_error
        Mean over the images of KL(dense || other) of the softmax outputs, in nats, and its standard error. The error is
        None for one image.
    agreement, agreement_error
        Share of images to which both give the same class, and its standard error.
    accuracy, dense_accuracy
        Accuracy of the other network and of the dense one. None without labels.

    Notes
    -----
    Standard errors are those of a mean over independent images. They do not say how images of another kind would do.
    """

    images: int
    kl: float
    kl_error: float | None
    agreement: float
    agreement_error: float | None
    accuracy: Accuracy | None = None
    dense_accuracy: Accuracy | None = None

    def __str__(self) -> str:
        far = f"KL to the dense network {self.kl:.4g}{_plus_minus(self.kl_error, 1, '.2g')} nats"
        same = f"same class {100 * self.agreement:.2f}{_plus_minus(self.agreement_error, 100, '.2f')} %"
        own = "" if self.accuracy is None else f"; {self.accuracy} (dense: {self.dense_accuracy})"
        return f"{far}, {same}, of {self.images} images{own}"

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


@entrance(dense=RUNNABLE, other=RUNNABLE, batches=a_series)
def compare_outputs(dense: nn.Module, other: nn.Module, batches: Iterable[Any]) -> Fidelity:
    """Compare the outputs of two networks in eval mode. Their modes and statistics do not change.

    Parameters
    ----------
    dense, other
        The dense network and another one. Both map images to logits of shape (images, classes), or (images, classes,
        ...). In the second case, all positions of an image count alike. Each may be on a device of its own.
    batches
        Images, best held-out ones: tensors, or tuples of images, with or without labels.

    Raises
    ------
    LearningError
        If there are no images, if outputs are no logits or differ in shape, or if labels do not fit.

    Examples
    --------
    >>> dense, other = nn.Identity(), nn.Softmax(dim=1)
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    >>> str(compare_outputs(dense, other, [logits]))
    'KL to the dense network 0.06962 ± 0.039 nats, same class 100.00 ± 0.00 %, of 2 images'
    """
    divergences: list[torch.Tensor] = []
    same: list[torch.Tensor] = []
    own_scores, dense_scores = Scores(), Scores()
    labelled: bool | None = None
    with in_modes(dense, training=False), in_modes(other, training=False), torch.no_grad():
        for batch in batches:
            parts = parts_of(batch)
            if len(parts) not in (1, 2) or not all(isinstance(part, torch.Tensor) for part in parts):
                raise LearningError(f"a batch has {len(parts)} parts; give tensors of images, labels may follow")
            if labelled is not None and labelled != (len(parts) == 2):
                raise LearningError("some batches have labels and some have none; give labels in all or in none")
            labelled = len(parts) == 2
            expected, found = _logits(dense, parts[0], "dense"), _logits(other, parts[0], "other")
            found = found.to(expected.device)
            if expected.shape != found.shape:
                raise LearningError(
                    f"the outputs have the shapes {tuple(expected.shape)} and {tuple(found.shape)}; give two networks "
                    "with the same classes"
                )
            divergences.append(_divergence(expected, found).cpu())
            same.append(_per_image((expected.argmax(1) == found.argmax(1)).double()).cpu())
            if labelled:
                own_scores.add(found, parts[1])
                dense_scores.add(expected, parts[1])
    if not sum(map(len, same)):
        raise LearningError("there are no images to compare on; give at least one batch")
    kl, agreement = torch.cat(divergences), torch.cat(same)
    return Fidelity(
        len(kl),
        float(kl.mean()),
        _standard_error(kl),
        float(agreement.mean()),
        _standard_error(agreement),
        own_scores.accuracy() if labelled else None,
        dense_scores.accuracy() if labelled else None,
    )


def _logits(network: nn.Module, x: torch.Tensor, which: str) -> torch.Tensor:
    try:
        outputs = network(x.to(device_of(network)))
    except Exception as error:  # any error: an architecture may fail on images of another shape
        raise LearningError(
            f"the {which} network cannot take the images of shape {tuple(x.shape)} ({first_line(error)}); give images "
            "made for it"
        ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2 or not outputs.is_floating_point():
        kind = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, torch.Tensor) else described(outputs)
        raise LearningError(
            f"the {which} network returns outputs that are no logits ({kind}); wrap it in one that returns a tensor of "
            "shape (images, classes)"
        )
    if not bool(torch.isfinite(outputs).all()):
        raise LearningError(f"the {which} network returns values that are NaN or infinite; look at its weights")
    return outputs


def _divergence(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """KL(expected || found) per image, float64 of shape (images,)."""
    p, q = (own.double().log_softmax(1) for own in (expected, found))
    return _per_image((p.exp() * (p - q)).sum(1))


def _per_image(values: torch.Tensor) -> torch.Tensor:
    """The mean over all positions of an image, of shape (images,)."""
    return values.flatten(1).mean(1) if values.ndim > 1 else values


def _standard_error(values: torch.Tensor) -> float | None:
    return None if len(values) < 2 else float(values.std()) / math.sqrt(len(values))


def _plus_minus(error: float | None, factor: float, form: str) -> str:
    return "" if error is None else f" ± {factor * error:{form}}"
