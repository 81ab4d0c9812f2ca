"""Networks of segmentation_models_pytorch, torchvision (detection, video, optical flow) and timm."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.coverage.wild.network import Cut, Network
from benchmarks.coverage.wild.timm_members import ATTENTION, CONVOLUTIONAL, MLPS, SIZES
from upscale_opt.models.loading import import_torchvision


def _smp(name: str, encoder: str = "resnet18", **arguments: Any) -> nn.Module:
    import_torchvision()
    package = importlib.import_module("segmentation_models_pytorch")
    return getattr(package, name)(encoder, encoder_weights=None, classes=5, **arguments)


def _segmentation(name: str, *, size: int = 64, attention: bool = False, **arguments: Any) -> Network:
    return Network(partial(_smp, name, **arguments), (1, 3, size, size), attention, "segmentation_models_pytorch")


SEGMENTATION = {
    "unet": _segmentation("Unet"),
    "unet-mobilenet": _segmentation("Unet", encoder="mobilenet_v2"),
    "unet-scse": _segmentation("Unet", decoder_attention_type="scse"),
    "unet++": _segmentation("UnetPlusPlus"),
    "manet": _segmentation("MAnet", attention=True),
    "linknet": _segmentation("Linknet"),
    "fpn": _segmentation("FPN"),
    "pspnet": _segmentation("PSPNet", size=96),
    "deeplabv3": _segmentation("DeepLabV3"),
    "deeplabv3+": _segmentation("DeepLabV3Plus"),
    "pan": _segmentation("PAN", size=128),
    "upernet": _segmentation("UPerNet"),
    "segformer": _segmentation("Segformer"),
    "segformer-mit": _segmentation("Segformer", encoder="mit_b0", attention=True),
    "dpt": _segmentation(
        "DPT", encoder="tu-vit_tiny_patch16_224", attention=True, dynamic_img_size=True, decoder_readout="ignore"
    ),
}
"""Segmentation networks by name."""


def _torchvision(path: str, name: str, **arguments: Any) -> nn.Module:
    import_torchvision()
    return getattr(importlib.import_module(f"torchvision.models.{path}"), name)(**arguments)


def _detection(name: str) -> nn.Module:
    return _torchvision("detection", name, weights=None, weights_backbone=None)


class _Listed(nn.Module):
    """The maps of a backbone as a list, as heads want them."""

    def forward(self, maps: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return list(maps.values())


def _dense(name: str) -> nn.Module:
    """A one-stage detector up to its scores and boxes: without anchors, and without a selection of boxes."""
    whole = _detection(name)
    return Cut(whole.backbone, _Listed(), whole.head)


def _proposals() -> nn.Module:
    whole = _detection("fasterrcnn_mobilenet_v3_large_fpn")
    return Cut(whole.backbone, _Listed(), whole.rpn.head)


_PYRAMID = partial(_torchvision, "detection.backbone_utils", weights=None)
DETECTION = {
    "resnet18-fpn": Network(partial(_PYRAMID, "resnet_fpn_backbone", backbone_name="resnet18"), (1, 3, 64, 64)),
    "resnet50-fpn": Network(partial(_PYRAMID, "resnet_fpn_backbone", backbone_name="resnet50"), (1, 3, 64, 64)),
    "mobilenet-fpn": Network(
        partial(_PYRAMID, "mobilenet_backbone", backbone_name="mobilenet_v3_large", fpn=True), (1, 3, 64, 64)
    ),
    "faster-rcnn-proposals": Network(_proposals, (1, 3, 64, 64)),
    "retinanet-dense": Network(partial(_dense, "retinanet_resnet50_fpn"), (1, 3, 64, 64)),
    "fcos-dense": Network(partial(_dense, "fcos_resnet50_fpn"), (1, 3, 64, 64)),
    "ssd300-dense": Network(partial(_dense, "ssd300_vgg16"), (1, 3, 300, 300)),
    "ssdlite-dense": Network(partial(_dense, "ssdlite320_mobilenet_v3_large"), (1, 3, 128, 128)),
}
"""Parts of torchvision's detectors by name."""


def _mvit(second: bool) -> nn.Module:
    """Three blocks of MViT; the second version pools residuals and has relative positions."""
    import_torchvision()
    module = importlib.import_module("torchvision.models.video.mvit")
    blocks = [
        module.MSBlockConfig(1, 24, 48, [], [3, 3, 3], [], [1, 4, 4]),
        module.MSBlockConfig(2, 48, 96, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
        module.MSBlockConfig(4, 96, 96, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    own = {"residual_pool": second, "residual_with_cls_embed": not second, "rel_pos_embed": second}
    return module.MViT((64, 64), 8, blocks, **own, proj_after_attn=second)


_FILM = (1, 3, 8, 32, 32)
_VIDEO = partial(_torchvision, "video")
VIDEO = {
    "r3d_18": Network(partial(_VIDEO, "r3d_18"), _FILM),
    "mc3_18": Network(partial(_VIDEO, "mc3_18"), _FILM),
    "r2plus1d_18": Network(partial(_VIDEO, "r2plus1d_18"), _FILM),
    "s3d": Network(partial(_VIDEO, "s3d"), (1, 3, 16, 224, 224)),
    "mvit_v1": Network(partial(_mvit, second=False), (1, 3, 8, 64, 64), attention=True),
    "mvit_v2": Network(partial(_mvit, second=True), (1, 3, 8, 64, 64), attention=True),
    "swin3d_t": Network(partial(_VIDEO, "swin3d_t"), (1, 3, 8, 64, 64), attention=True),
    "raft_small": Network(
        partial(_torchvision, "optical_flow", "raft_small"),
        lambda: (torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)),
    ),
}
"""torchvision's networks of films and optical flow, by name."""


def _timm(name: str, arguments: dict[str, Any]) -> nn.Module:
    import_torchvision()
    return importlib.import_module("timm").create_model(name, pretrained=False, **arguments)


TIMM = {
    name: Network(
        partial(_timm, name, arguments),
        (1, 3, *[SIZES.get(name) or arguments.get("img_size", 64)] * 2),
        attention=own is ATTENTION,
        package="timm",
    )
    for own in (CONVOLUTIONAL, MLPS, ATTENTION)
    for name, arguments in own.items()
}
"""timm's networks by name."""
