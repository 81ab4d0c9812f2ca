"""Networks of transformers, from small configurations, with random weights."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.coverage.wild.network import Inputs, Network
from upscale_opt.models.loading import import_torchvision

_WIDE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
_TEXT = {**_WIDE, "vocab_size": 100, "max_position_embeddings": 64}
_PICTURE = {**_WIDE, "image_size": 32, "patch_size": 8}
_DECODER = {**_TEXT, "num_key_value_heads": 2, "use_cache": False, "pad_token_id": 0, "head_dim": 12}
_ALBERT = {**_TEXT, "embedding_size": 16}
_T5 = {"vocab_size": 100, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4}
_SOUND = {"conv_dim": (32, 32), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
_WHISPER = {"d_model": 48, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96}
_LEVELS = {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64]}


def _tokens() -> tuple[torch.Tensor, ...]:
    return (torch.randint(1, 100, (1, 12)),)


def _model(name: str, config: str, arguments: dict[str, Any]) -> nn.Module:
    import_torchvision()
    package = importlib.import_module("transformers")
    return getattr(package, name)(getattr(package, config)(**arguments))


def _network(
    name: str, arguments: dict[str, Any], inputs: Inputs = _tokens, *, config: str = "", attention: bool = True
) -> Network:
    config = config or f"{name.removesuffix('Model').removesuffix('Encoder')}Config"
    return Network(partial(_model, name, config, arguments), inputs, attention, "transformers")


_SMALL = (1, 3, 32, 32)
TRANSFORMERS = {
    "bert": _network("BertModel", _TEXT),
    "roberta": _network("RobertaModel", _TEXT),
    "albert": _network("AlbertModel", _ALBERT),
    "electra": _network("ElectraModel", _ALBERT),
    "distilbert": _network(
        "DistilBertModel", {"vocab_size": 100, "dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}
    ),
    "mpnet": _network("MPNetModel", _TEXT),
    "gpt2": _network(
        "GPT2Model", {"vocab_size": 100, "n_positions": 64, "n_embd": 48, "n_layer": 2, "n_head": 4, "use_cache": False}
    ),
    "gpt-neox": _network("GPTNeoXModel", {**_TEXT, "use_cache": False}),
    "opt": _network(
        "OPTModel",
        {**_TEXT, "ffn_dim": 96, "word_embed_proj_dim": 48, "use_cache": False},
    ),
    "llama": _network("LlamaModel", _DECODER),
    "mistral": _network("MistralModel", _DECODER),
    "qwen2": _network("Qwen2Model", _DECODER),
    "gemma": _network("GemmaModel", _DECODER),
    "t5-encoder": _network("T5EncoderModel", {**_T5, "use_cache": False}, config="T5Config"),
    "mamba": _network(
        "MambaModel",
        {"vocab_size": 100, "hidden_size": 48, "state_size": 8, "num_hidden_layers": 2, "use_cache": False},
        attention=False,
    ),
    "vit": _network("ViTModel", _PICTURE, _SMALL),
    "deit": _network("DeiTModel", _PICTURE, _SMALL),
    "beit": _network("BeitModel", _PICTURE, _SMALL),
    "dinov2": _network("Dinov2Model", _PICTURE, _SMALL),
    "clip-vision": _network("CLIPVisionModel", _PICTURE, _SMALL),
    "siglip-vision": _network("SiglipVisionModel", _PICTURE, _SMALL),
    "swin": _network(
        "SwinModel",
        {"image_size": 32, "embed_dim": 32, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4},
        _SMALL,
    ),
    "segformer": _network(
        "SegformerForSemanticSegmentation",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "decoder_hidden_size": 32, "num_labels": 5},
        (1, 3, 64, 64),
        config="SegformerConfig",
    ),
    "convnextv2": _network("ConvNextV2Model", _LEVELS, (1, 3, 64, 64), attention=False),
    "resnet": _network("ResNetModel", {**_LEVELS, "embedding_size": 16}, (1, 3, 64, 64), attention=False),
    "mobilevit": _network("MobileViTModel", {"image_size": 64}, (1, 3, 64, 64)),
    "whisper-encoder": Network(
        lambda: _model("WhisperModel", "WhisperConfig", {**_WHISPER, "max_source_positions": 40}).encoder,
        (1, 80, 80),
        True,
        "transformers",
    ),
    "wav2vec2": _network("Wav2Vec2Model", {**_WIDE, **_SOUND, "num_conv_pos_embedding_groups": 4}, (1, 800)),
    "audio-spectrogram": _network(
        "ASTModel", {**_WIDE, "max_length": 40, "num_mel_bins": 24, "patch_size": 8}, (1, 40, 24), config="ASTConfig"
    ),
}
"""Networks of transformers by name."""
