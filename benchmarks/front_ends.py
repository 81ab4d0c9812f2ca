"""Networks that torch.fx dislikes, through both front ends: who takes them, how many channels may move, is it right?

The command: ``python -m benchmarks.front_ends [NAME ...]``. With ``--only own`` it needs no other packages; otherwise
networks of timm and transformers (from configurations, with random weights) come along if these are installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from upscale_opt import ModelError, VerificationError, constrained_masks, export, trace
from upscale_opt.arguments.modes import FRONT_ENDS

Network = tuple[nn.Module, tuple[Any, ...]]
IMAGE = (1, 3, 32, 32)
NETWORKS: dict[str, Callable[[], Network]] = {}
AMOUNT = "0.5"


def listed(make: Callable[[], Network]) -> Callable[[], Network]:
    """Add a network to the list under the name of its function."""
    NETWORKS[make.__name__.replace("_", "-")] = make
    return make


def trunk(width: int = 16) -> nn.Sequential:
    """A few convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()),
    )


class Written(nn.Module):
    """A trunk, a forward that is given as a function of the module and its inputs, and a head."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk(), nn.Linear(32, 5)
        for name, module in modules.items():
            self.add_module(name, module)
        self.behaviour = forward

    def forward(self, x: torch.Tensor) -> Any:
        """Call the function."""
        return self.behaviour(self, x)


def of(forward: Callable[..., Any], **modules: nn.Module) -> Network:
    """A `Written` and an image."""
    return Written(forward, **modules), (torch.zeros(IMAGE),)


# Questions about shapes, types and memory


@listed
def stride_is_asked() -> Network:
    """Code that looks at the memory of a tensor."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y if y.is_contiguous() else y.contiguous()
        return own.head(y.mean((2, 3)) * (1 if y.stride(1) > 1 else 2))

    return of(forward)


@listed
def smallest_number_of_a_type() -> Network:
    """``torch.finfo(x.dtype).min`` in a mask."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2)
        keep = torch.ones(y.shape[-1], y.shape[-1], dtype=torch.bool, device=y.device).tril()
        scores = (y.transpose(1, 2) @ y).masked_fill(~keep, torch.finfo(y.dtype).min)
        return own.head((scores.softmax(-1) @ y.transpose(1, 2)).mean(1))

    return of(forward)


@listed
def pools_while_it_is_large() -> Network:
    """A loop that depends on the size."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        while y.shape[-1] > 4:
            y = own.down(y) if y.shape[-1] % 2 == 0 else functional.pad(y, (0, 1))
        return own.head(y.amax((2, 3)))

    return of(forward, down=nn.Sequential(nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU()))


@listed
def padding_by_the_size() -> Network:
    """Padding as in TensorFlow, computed with `math`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        for layer in (own.first, own.second):
            need = [max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in x.shape[-2:]]
            x = layer(functional.pad(x, [need[1] // 2, need[1] - need[1] // 2, need[0] // 2, need[0] - need[0] // 2]))
        return own.head(x.relu().mean((2, 3)))

    return of(forward, first=nn.Conv2d(3, 32, 3, stride=2), second=nn.Conv2d(32, 32, 3, stride=2))


@functools.lru_cache
def _window(size: int) -> float:
    return 1.0 / math.sqrt(size)


@listed
def cached_by_the_size() -> Network:
    """A function with a cache gets a size."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        return own.head(y.sum((2, 3)) * _window(y.shape[2] * y.shape[3]))

    return of(forward)


@listed
def table_by_the_shape() -> Network:
    """A dictionary on the module is filled under the shape."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        key = tuple(y.shape[-2:])
        if key not in own.grids:
            own.grids[key] = torch.linspace(0, 1, key[1], device=y.device).expand(key)
        return own.head((y * own.grids[key]).mean((2, 3)))

    model, inputs = of(forward)
    model.grids = {}  # type: ignore[assignment]
    return model, inputs


@listed
def shape_as_a_tuple() -> Network:
    """Sums and slices of shapes."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y.reshape((*y.shape[:2], y.shape[2] * y.shape[3])).transpose(-1, -2)
        y = own.mixing(y).view(*y.shape[:-1], -1)
        return own.head(y.mean(dim=tuple(range(1, y.ndim - 1))))

    return of(forward, mixing=nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)))


@listed
def batch_is_walked() -> Network:
    """A loop over the samples."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return torch.stack([own.head(own.trunk(sample[None]).mean((2, 3)))[0] for sample in x])

    return of(forward)


# Functions that take functions


@listed
def vmapped_layers() -> Network:
    """A layer under `torch.vmap`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2).transpose(1, 2)
        y = y + torch.vmap(own.mixing, in_dims=1, out_dims=1)(y)
        return own.head(y.mean(1))

    return of(forward, mixing=nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32)))


@listed
def functional_call() -> Network:
    """A module is called with its own parameters as arguments."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = torch.func.functional_call(own.more, dict(own.more.named_parameters()), (own.trunk(x),))
        return own.head(y.mean((2, 3)))

    return of(forward, more=nn.Sequential(nn.Conv2d(32, 48, 3), nn.ReLU(), nn.Conv2d(48, 32, 1)))


@listed
def vmapped_function() -> Network:
    """A function per sample, which uses modules outside."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).mean((2, 3))
        gates = torch.vmap(lambda row: torch.sigmoid(row - row.mean()))(y)
        return own.head(own.more(y) * gates)

    return of(forward, more=nn.Linear(32, 32))


@listed
def checkpointed() -> Network:
    """A part under `torch.utils.checkpoint`."""
    from torch.utils.checkpoint import checkpoint

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        y = y + checkpoint(own.more, y, use_reentrant=False)
        return own.head(y.mean((2, 3)))

    return of(forward, more=nn.Sequential(nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 32, 1)))


@torch.jit.script
def _scripted(x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.where(x > 0, x, x * slope)


@listed
def scripted_function() -> Network:
    """A helper that was compiled by TorchScript."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(_scripted(own.more(_scripted(own.trunk(x), 0.1)), 0.2).mean((2, 3)))

    return of(forward, more=nn.Conv2d(32, 32, 3))


@listed
def called_by_name() -> Network:
    """Layers are chosen by a text with a size in it."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        layer = getattr(own, f"at_{y.shape[-1]}", None) or own.otherwise
        return own.head(layer(y).relu().mean((2, 3)))

    return of(forward, at_16=nn.Conv2d(32, 32, 3), otherwise=nn.Conv2d(32, 32, 1))


# Containers


class Levels(NamedTuple):
    """Two levels of features."""

    fine: torch.Tensor
    coarse: torch.Tensor


@dataclasses.dataclass
class Found:
    """What a detector returns."""

    boxes: torch.Tensor
    scores: dict[str, torch.Tensor]


torch.export.register_dataclass(Found, serialized_type_name="benchmarks.front_ends.Found")


def _levels(own: Any, x: torch.Tensor) -> Levels:
    y = own.trunk(x)
    return Levels(y, own.down(y).relu())


@listed
def pyramid_with_names() -> Network:
    """Levels in a named tuple, and a dictionary with entries in the order of their names."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        levels = _levels(own, x)
        lateral = {name: own.lateral(level) for name, level in sorted(levels._asdict().items())}
        top = functional.interpolate(lateral["coarse"], size=lateral["fine"].shape[-2:])
        return {name: own.out(level) for name, level in {**lateral, "fine": lateral["fine"] + top}.items()}

    return of(
        forward,
        down=nn.Conv2d(32, 32, 3, stride=2, padding=1),
        lateral=nn.Conv2d(32, 24, 1),
        out=nn.Conv2d(24, 24, 3, padding=1),
    )


@listed
def detector() -> Network:
    """A head with anchors from the sizes of the levels, and a dataclass as result."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        boxes, scores = [], []
        for i, level in enumerate(_levels(own, x)):
            rows, columns = level.shape[-2:]
            y, z = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            anchors = torch.stack([z, y], -1).reshape(-1, 2).to(level) * 2 ** (i + 1)
            hidden = own.tower(level)
            boxes.append(own.box(hidden).flatten(2).transpose(1, 2) + torch.cat([anchors, anchors], -1))
            scores.append(own.score(hidden).flatten(2).transpose(1, 2))
        return Found(torch.cat(boxes, 1), {"scores": torch.cat(scores, 1).sigmoid()})

    return of(
        forward,
        down=nn.Conv2d(32, 32, 3, stride=2, padding=1),
        tower=nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        box=nn.Conv2d(32, 4, 1),
        score=nn.Conv2d(32, 3, 1),
    )


@listed
def written_in_place() -> Network:
    """Results are written into an empty tensor."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        out = y.new_zeros(y.shape[0], 32, y.shape[2], y.shape[3])
        out[:, :, ::2] = own.even(y)[:, :, ::2]
        out[:, :, 1::2] = own.odd(y)[:, :, 1::2]
        return own.head(out.mean((2, 3)))

    return of(forward, even=nn.Conv2d(32, 32, 1), odd=nn.Conv2d(32, 32, 1))


@listed
def checked_by_except() -> Network:
    """An attempt that fails leads to another way."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        try:
            y = y + own.wide(y)
        except RuntimeError:
            y = y + own.right(y)
        return own.head(y.mean((2, 3)))

    return of(forward, wide=nn.Conv2d(32, 48, 1), right=nn.Conv2d(32, 32, 1))


# Modules that torch.fx does not look into


@listed
def encoder_layers() -> Network:
    """`torch.nn.TransformerEncoder`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(own.encoder(own.trunk(x).flatten(2).transpose(1, 2)).mean(1))

    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return of(forward, encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


@listed
def decoder_layers() -> Network:
    """`torch.nn.TransformerDecoderLayer`."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x).flatten(2).transpose(1, 2)
        return own.head(own.decoder(y[:, :16], y[:, 16:]).mean(1))

    return of(forward, decoder=nn.TransformerDecoderLayer(32, 4, 64, batch_first=True))


@listed
def convolutional_recurrent() -> Network:
    """An LSTM behind convolutions, as for reading text."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        steps, _ = own.recurrent(own.trunk(x).mean(2).transpose(1, 2))
        return own.head(steps)

    return of(forward, recurrent=nn.LSTM(32, 16, bidirectional=True, batch_first=True))


class Dispatched(nn.Module):
    """A decorator hides the parameters of forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Conv2d(32, 32, 1), "b": nn.Conv2d(32, 32, 3, padding=1)})

    def forward(self, *inputs: torch.Tensor, **options: Any) -> torch.Tensor:
        """Call the layers by their names."""
        (x,) = inputs
        for name in options.get("order", ()):
            x = self.layers[name](x).relu()
        return x


@listed
def stars_and_options() -> Network:
    """A part with ``*inputs`` and ``**options``."""

    def forward(own: Any, x: torch.Tensor) -> Any:
        return own.head(own.more(own.trunk(x), order=("b", "a")).mean((2, 3)))

    return of(forward, more=Dispatched())


@listed
def numbers_of_numpy() -> Network:
    """Sizes go through numpy."""
    import numpy as np

    def forward(own: Any, x: torch.Tensor) -> Any:
        y = own.trunk(x)
        size = np.array([int(n) for n in y.shape[-2:]]) // 2
        return own.head(functional.adaptive_avg_pool2d(y, tuple(size.tolist())).mean((2, 3)))

    return of(forward)


# Others' networks

_TIMM = (
    *("swinv2_cr_tiny_224", "hiera_tiny_224", "volo_d1_224", "maxvit_tiny_tf_224", "beit_base_patch16_224"),
    *("coat_lite_tiny", "crossvit_tiny_240", "nest_tiny", "sequencer2d_s", "naflexvit_base_patch16_gap"),
    *("efficientvit_m0", "mobilevitv2_050", "convit_tiny", "xcit_nano_12_p8_224", "tf_efficientnet_b0"),
)
_TRANSFORMERS: dict[str, dict[str, Any]] = {
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


def _timm(name: str) -> Network:
    import timm

    size = 240 if "240" in name else 224
    return timm.create_model(name, pretrained=False), (torch.zeros(1, 3, size, size),)


def _transformers(kind: str) -> Network:
    import transformers

    config = transformers.AutoConfig.for_model(kind, **_TRANSFORMERS[kind])
    if kind == "t5":
        model: nn.Module = transformers.T5EncoderModel(config)
    else:
        model = transformers.AutoModel.from_config(config)
    size = getattr(config, "image_size", 64)
    given = torch.zeros(1, 3, size, size) if kind in _OF_IMAGES else torch.ones(1, 12, dtype=torch.long)
    return model, (given,)


def networks(*, only_own: bool) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Yield all networks that can be built here."""
    yield from NETWORKS.items()
    if not only_own and importlib.util.find_spec("timm"):
        yield from ((f"timm/{name}", functools.partial(_timm, name)) for name in _TIMM)
    if not only_own and importlib.util.find_spec("transformers"):
        yield from ((f"transformers/{name}", functools.partial(_transformers, name)) for name in _TRANSFORMERS)


def tried(make: Callable[[], Network], front_end: str) -> str:
    """Trace, prune and verify a network, and say what came out in one line."""
    torch.manual_seed(0)
    model, inputs = make()
    started = time.perf_counter()
    try:
        graph = trace(model.eval(), inputs, front_end=front_end)
    except ModelError as error:
        return f"refused: {str(error)[:300]}"
    seconds = time.perf_counter() - started
    sizes = [(block.size, block.pinned) for block in graph.blocks]
    movable, number = sum(size for size, pinned in sizes if not pinned), sum(size for size, _ in sizes)
    text = f"{movable} of {number} channels may move, {len(graph.consumers)} consumers, {seconds:.1f} s"
    try:
        exported = export(model, inputs, masks=constrained_masks(graph, AMOUNT), baseline=True, graph=graph)
    except VerificationError as error:
        return f"{text}; NOT VERIFIED: {str(error)[:200]}"
    return f"{text}; {exported.verification}"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--only", choices=["own"], help="networks that need no other packages")
    parser.add_argument("--front-end", choices=FRONT_ENDS, action="append", help="default: fx and export")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, make in networks(only_own=given.only == "own"):
        if given.names and name not in given.names:
            continue
        for front_end in given.front_end or ("fx", "export"):
            try:
                result = tried(make, front_end)
            except Exception as error:
                result = f"ERROR: {type(error).__name__}: {str(error)[:300]}"
            print(f"{name:34} {front_end:7} {result}", flush=True)


if __name__ == "__main__":
    main()
