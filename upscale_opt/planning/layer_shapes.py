"""The shape of one call of a consumer, as plain data: the key of measured cost tables. This module does not import
torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from problems import ProblemError
from problems.files import reject_unknown_fields, require_field

CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
LINEAR = "Linear"


@dataclass(frozen=True)
class Layer:
    """One call of a consumer with one group, with the operators before it that only this consumer uses.

    Attributes
    ----------
    kind
        ``Conv1d``, ``Conv2d``, ``Conv3d`` or ``Linear``.
    input_shape
        Shape of the tensor it reads. The length of the channel axis is the length in the example and has no effect.
    axis
        The channel axis of that tensor.
    channel_size
        Entries of that axis per channel: 1, or the spatial size after a flatten.
    outputs
        Number of output channels it computes.
    kernel, stride, padding, dilation
        Of a convolution. Empty for a linear layer.
    bias
        Whether the layer has a bias.
    prologue
        The operators before the layer that only this layer uses, in order, without selections: class names of modules,
        or names of functions.
    operands
        Stored channels of every operand of the concat, if only this layer reads that concat. Otherwise empty.
    """

    kind: str
    input_shape: tuple[int, ...]
    axis: int
    channel_size: int
    outputs: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    bias: bool = False
    prologue: tuple[str, ...] = ()
    operands: tuple[int, ...] = ()

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a 1x1 convolution of images. A matrix product can compute it."""
        return self.kind == "Conv2d" and self.kernel == (1, 1) and self.padding == (0, 0) and len(self.input_shape) == 4

    @property
    def has_prologue(self) -> bool:
        """Whether some operators serve this layer alone. Channels may then be selected before or after them."""
        return bool(self.prologue or self.operands)

    def __str__(self) -> str:
        size = "x".join(map(str, self.input_shape))
        kernel = f" {'x'.join(map(str, self.kernel))}" if self.kernel else ""
        behind = f" behind {', '.join(self.prologue)}" if self.prologue else ""
        joined = f" of a concat of {len(self.operands)}" if self.operands else ""
        return f"{self.kind}{kernel} to {self.outputs} on {size}{behind}{joined}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: dict[str, Any], *, channelwise: bool = False) -> Layer:
        """Read a layer from the output of `to_dict`.

        Parameters
        ----------
        raw
            The JSON object.
        channelwise
            Whether it is of an operator that works channel by channel: its kind may be any name then.

        Raises
        ------
        ProblemError
            If a field is missing, unknown or of a wrong type.
        """
        reject_unknown_fields(raw, {field.name for field in fields(cls)}, "a layer")
        values: dict[str, Any] = {}
        for field in fields(cls):
            wanted: Any = {"str": str, "int": int, "bool": bool}.get(str(field.type), list)
            value = require_field(raw, field.name, wanted, "a layer")
            if wanted is list:
                element = str if field.name == "prologue" else int
                if not all(type(entry) is element for entry in value):
                    raise ProblemError(f"a layer's field {field.name!r} must list {element.__name__} values")
                value = tuple(value)
            values[field.name] = value
        layer = cls(**values)
        if not channelwise and layer.kind not in (*CONVOLUTIONS, LINEAR):
            raise ProblemError(
                f"a layer's field 'kind' is {layer.kind!r}; it must be {', '.join(CONVOLUTIONS)} or {LINEAR}"
            )
        sizes = (*layer.input_shape, *layer.kernel, *layer.stride, *layer.dilation, *layer.operands)
        if min(layer.channel_size, layer.outputs, *sizes) < 1 or any(own < 0 for own in layer.padding):
            raise ProblemError("a layer's numbers must be at least 1, its padding at least 0")
        if not 0 <= layer.axis < len(layer.input_shape):
            raise ProblemError(
                f"a layer's field 'axis' is {layer.axis}, but its input has {len(layer.input_shape)} axes"
            )
        return layer
