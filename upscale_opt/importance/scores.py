"""The importances of the library: those of UPSCALE and other common ones, one function each.

Every function takes the `Evidence` and the name of a weight. It returns float64 scores of shape (channels,) for one
side of the weight, as ``evidence.side`` says: its input channels or its output channels.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch

from upscale_opt.importance.evidence import Evidence
from upscale_opt.importance.norms import num_channels, slice_norms
from upscale_opt.importance.registry import Importance, register_importance


def l1(evidence: Evidence, weight: str) -> np.ndarray:
    """Sum of the magnitudes of a channel's slice (Li et al., ICLR 2017)."""
    return slice_norms(evidence.graph, weight, evidence.side, order=1)


def l2(evidence: Evidence, weight: str) -> np.ndarray:
    """Euclidean norm of a channel's slice."""
    return slice_norms(evidence.graph, weight, evidence.side)


def lamp(evidence: Evidence, weight: str) -> np.ndarray:
    """A channel's squared norm divided by the sum of squares of all channels that are at least as strong.

    This is the score of Lee et al. (ICLR 2021, equation 4), with slices in place of single weights. Of equal channels,
    the first is the weakest. The strongest channel of every layer has score 1, so a global threshold never removes a
    whole layer.
    """
    squares = evidence.slices(weight).square().sum(1).cpu().numpy()
    order = np.argsort(squares, kind="stable")
    sums = np.cumsum(squares[order[::-1]])[::-1]
    score = np.empty_like(squares)
    score[order] = np.divide(squares[order], sums, out=np.zeros_like(sums), where=sums != 0)
    return score


def fpgm(evidence: Evidence, weight: str) -> np.ndarray:
    """Sum of the distances from a channel's slice to the others (He et al., CVPR 2019, equation 4).

    The score is low near the geometric median of the slices: the other channels can replace such a channel. A distance
    is the square root of a difference of products in float64. For nearly equal slices it is accurate to about 1e-8 of
    the slices' norms.
    """
    slices = evidence.slices(weight)
    centred = slices - slices.mean(0)
    distances = torch.cdist(centred, centred, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(0)
    return distances.sum(1).cpu().numpy()


def hrank(evidence: Evidence, weight: str) -> np.ndarray:
    """Mean rank of a channel's feature map over the calibration images (Lin et al., CVPR 2020, equation 5)."""
    return evidence.statistics[weight]


def batch_norm_scale(evidence: Evidence, weight: str) -> np.ndarray:
    """Absolute scale of the BatchNorm that a channel comes from (Liu et al., ICCV 2017).

    See `upscale_opt.importance.scales` for which BatchNorm that is. If a channel comes from none, an error is raised.
    """
    return evidence.scales(weight)


def taylor(evidence: Evidence, weight: str) -> np.ndarray:
    """Squared first-order change of the loss if a channel's slice is removed (Molchanov et al., CVPR 2019, equation 8).

    It is the square of the sum over the slice of weight times gradient. The gradient is of the mean loss over all the
    data.
    """
    return (evidence.slices(weight) * evidence.gradient_slices(weight)).sum(1).square().cpu().numpy()


def fisher(evidence: Evidence, weight: str) -> np.ndarray:
    """Mean over the images of the squared first-order change of the image's loss if a mask drops a channel.

    The change is the sum over positions of the channel's value times the gradient of the loss by it (Theis et al.,
    arXiv:1801.05787, 2018). Channels that several layers share: Liu et al., ICML 2021.
    """
    return evidence.products[weight]


def random(evidence: Evidence, weight: str) -> np.ndarray:
    """Uniform random numbers in [0, 1). They depend only on the seed, the name of the weight and the side."""
    name = zlib.crc32(f"{evidence.side} {weight}".encode())
    return np.random.default_rng([evidence.seed, name]).random(num_channels(evidence.graph, weight, evidence.side))


def feature_ranks(maps: torch.Tensor) -> torch.Tensor:
    """Rank of every channel of every image. After a linear layer or a global pooling, the rank is 1 if nonzero, else 0.

    Parameters
    ----------
    maps
        float, shape (images, channels, *positions). If there are several positions, the last are columns, the others
        rows.

    Returns
    -------
    Tensor
        float64, shape (images, channels).

    Examples
    --------
    >>> feature_ranks(torch.stack([torch.eye(3), torch.ones(3, 3)])[None])
    tensor([[3., 1.]], dtype=torch.float64)
    """
    columns = maps.shape[-1] if maps.ndim > 2 else 1
    return torch.linalg.matrix_rank(maps.reshape(*maps.shape[:2], -1, columns)).double()


for own in (
    Importance("l1", l1, "Li et al., ICLR 2017"),
    Importance("l2", l2, "the Euclidean norm, as UPSCALE has it: Wan et al., ICML 2023", exponent=2),
    Importance("lamp", lamp, "Lee et al., ICLR 2021"),
    Importance("fpgm", fpgm, "He et al., CVPR 2019"),
    Importance("hrank", hrank, "Lin et al., CVPR 2020", statistic=feature_ranks),
    Importance("bn-scale", batch_norm_scale, "Liu et al., ICCV 2017"),
    Importance("taylor", taylor, "Molchanov et al., CVPR 2019", needs_gradients=True),
    Importance("fisher", fisher, "Theis et al., 2018", product_statistic=torch.square, samples_labels=True),
    Importance("empirical-fisher", fisher, "Theis et al., 2018", product_statistic=torch.square),
    Importance("random", random, "a seed"),
):
    register_importance(own)
