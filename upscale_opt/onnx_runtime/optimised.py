"""The graph that ONNX Runtime makes of a model on this machine, and the blocked layout in it.

Convolutions are fastest in a layout where 8 or 16 channels of a pixel lie side by side (NCHWc). ONNX Runtime puts
``ReorderInput`` and ``ReorderOutput`` where a tensor enters or leaves this layout.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from upscale_opt.onnx_runtime.sessions import session

BLOCKED = "com.microsoft.nchwc"
"""Domain of the operators in the blocked layout."""
REORDERS = ("ReorderInput", "ReorderOutput")
CONVOLUTIONS = ("Conv", "FusedConv")
_PROBED = 24  # channels: they fill three blocks of 8, or two of 16


def optimised(content: bytes | str) -> Any:
    """The `onnx.ModelProto` that ONNX Runtime makes of a model, given as bytes or by its path, on this machine.

    Raises
    ------
    OnnxError
        If ONNX Runtime does not accept the model.
    """
    import onnx

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "optimised.onnx"
        session(content, writes=path)
        return onnx.load(path)


def sizes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Name of a constant to its shape."""
    return {own.name: tuple(own.dims) for own in model.graph.initializer}


@cache
def block_size() -> int | None:
    """Channels of a block on this machine: 8 or 16. None if ONNX Runtime has no blocked layout here.

    A small convolution is optimised to find out.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, _PROBED, 4, 4]
    weight = numpy_helper.from_array(np.ones((_PROBED, _PROBED, 1, 1), np.float32), "weight")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x0", "y")]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x0", "weight"], ["y"])], "probe", ends[:1], ends[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    made = optimised(model.SerializeToString())
    for node in made.graph.node:
        if node.domain == BLOCKED and node.op_type == "Conv":
            return 16 if sizes_of(made)[node.input[1]][0] % 16 == 0 else 8
    return None
