"""Networks of timm and transformers, from configurations, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.front_ends.written import Network
from upscale_opt import ModelReference, load_model
from upscale_opt.models.loading import import_torchvision

TIMM = (
    *("swinv2_cr_tiny_224", "hiera_tiny_224", "volo_d1_224", "maxvit_tiny_tf_224", "beit_base_patch16_224"),
    *("coat_lite_tiny", "crossvit_tiny_240", "nest_tiny", "sequencer2d_s", "naflexvit_base_patch16_gap"),
    *("efficientvit_m0", "mobilevitv2_050", "convit_tiny", "xcit_nano_12_p8_224", "tf_efficientnet_b0"),
)
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
    "electra": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False},
    "llama": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "use_cache": False,
        "vocab_size": 500,
    },
    "t5": {"d_model": 64, "num_layers": 2, "num_heads": 4, "d_ff": 128, "d_kv": 16, "vocab_size": 500},
    "vit": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    "dinov2": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    "segformer": {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]},
    "convnext": {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
    "resnet": {"hidden_sizes": [32, 64], "depths": [1, 1], "embedding_size": 16},
    "swin": {"embed_dim": 24, "depths": [1, 1], "num_heads": [2, 4], "image_size": 64},
    "mobilevit": {"image_size": 64},
}
_OF_IMAGES = ("vit", "dinov2", "segformer", "convnext", "resnet", "swin", "mobilevit")


def of_timm(name: str) -> Network:
    """A network of timm."""
    size = 240 if "240" in name else 224
    return load_model(ModelReference(f"timm:{name}")), (torch.zeros(1, 3, size, size),)


def of_transformers(kind: str) -> Network:
    """A small network of transformers."""
    import_torchvision()  # transformers imports torchvision
    import transformers

    config = transformers.AutoConfig.for_model(kind, **TRANSFORMERS[kind])
    if kind == "t5":
        model: nn.Module = transformers.T5EncoderModel(config)
    else:
        model = transformers.AutoModel.from_config(config)
    size = getattr(config, "image_size", 64)
    given = torch.zeros(1, 3, size, size) if kind in _OF_IMAGES else torch.ones(1, 12, dtype=torch.long)
    return model, (given,)
