"""Updates the sizes that modules store as attributes, after their parameters were sliced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def resize(module: nn.Module, features: Mapping[str, int]) -> None:
    """Let the attributes of all submodules agree with the shapes of their parameters, in place.

    Parameters
    ----------
    module
        The module whose parameters were sliced.
    features
        Path of a submodule to its ``num_features``, for modules that may have no parameters to tell it.
    """
    for path, width in features.items():
        own: Any = module.get_submodule(path)
        own.num_features = width
    for own in module.modules():
        if isinstance(own, _ConvNd):
            first, second = own.weight.shape[:2]
            if own.groups == own.in_channels == own.out_channels:
                own.groups = first
            others = second * own.groups
            own.in_channels, own.out_channels = (first, others) if own.transposed else (others, first)
        elif isinstance(own, nn.Linear):
            own.out_features, own.in_features = own.weight.shape
        elif isinstance(own, (nn.Embedding, nn.EmbeddingBag)):
            own.embedding_dim = own.weight.shape[1]
        elif isinstance(own, nn.PReLU):
            own.num_parameters = own.weight.numel()
        elif isinstance(own, (nn.RNNBase, nn.RNNCellBase)):
            _resize_recurrent(own)
        elif isinstance(own, _NormBase) and own.affine:
            own.num_features = len(own.weight)


def _resize_recurrent(module: Any) -> None:
    """The sizes of a recurrent layer. Its list of weights is made anew: it must hold the sliced ones."""
    if isinstance(module, nn.RNNCellBase):
        module.hidden_size, module.input_size = module.weight_hh.shape[1], module.weight_ih.shape[1]
        return
    module.input_size, module.hidden_size = module.weight_ih_l0.shape[1], module.weight_hh_l0.shape[1]
    if module.proj_size:
        module.proj_size, module.hidden_size = module.weight_hr_l0.shape
    module._init_flat_weights()
