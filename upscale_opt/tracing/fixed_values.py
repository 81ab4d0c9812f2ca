"""Values for which a trace is valid: values that its code uses, and values that are not in the state_dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from upscale_opt.capture.origins import all_tensors
from upscale_opt.capture.tracer import Tracing
from upscale_opt.tracing.fingerprints import Fingerprint, fingerprint_of


def fixed_values(
    model: nn.Module, tracing: Tracing, tensors: Mapping[str, torch.Tensor], later: Mapping[str, torch.Tensor]
) -> dict[str, Fingerprint]:
    """Return fingerprints by name of the values for which a trace is valid.

    These are the values that the code uses, and tensors that are not in the state_dict.

    Parameters
    ----------
    model
        The network, in its original state.
    tracing
        The network's trace.
    tensors
        Tensors of the network that are not parameters, by name.
    later
        The same after a run of the modules that are kept whole. If such a module replaces a tensor, its result does not
        depend on the old value, so that tensor is not included.
    """
    found: dict[str, Any] = {}
    for name in tracing.used:
        found[name] = tensors.get(name)
    persistent = model.state_dict(keep_vars=True).keys()
    for name, buffer in tracing.module.named_buffers(remove_duplicate=False):
        if name not in persistent:
            found[name] = buffer
    for node in tracing.module.graph.nodes:
        module = tracing.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and not type(module).__module__.startswith(("torch.nn", "upscale_opt.")):
            for name, tensor in all_tensors(module):
                qualified = f"{node.target}.{name}"
                if qualified not in persistent and later.get(qualified) is tensor:
                    found[qualified] = tensor
    return {name: fingerprint_of(tensor) for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}
