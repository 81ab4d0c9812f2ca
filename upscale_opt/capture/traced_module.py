"""A traced network as a module that copies and pickles keep as it is: buffers stay buffers, with the names they had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

from upscale_opt.capture.proxies import Proxy
from upscale_opt.capture.recording import RecordingTracer


class TracedModule(fx.GraphModule):
    """A `torch.fx.GraphModule` whose copies leave the same buffers out of their state_dicts."""

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        result: fx.GraphModule = super().__deepcopy__(memo)
        keep_persistence(self, result)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        make, arguments = super().__reduce__()[:2]
        left_out = {
            path: sorted(own._non_persistent_buffers_set)
            for path, own in self.named_modules(remove_duplicate=False)
            if own._non_persistent_buffers_set
        }
        return _unpickled, (make, arguments, left_out)


class Retracer(RecordingTracer):
    """How torch makes a module of a pickle: it traces the code again. Buffers, changes and regions stay."""

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for the result of a node."""
        return Proxy(node, self)


def _unpickled(make: Callable[..., nn.Module], arguments: tuple[Any, ...], left_out: dict[str, list[str]]) -> nn.Module:
    module = make(*arguments)
    type(module).__bases__ = (TracedModule,)  # torch makes a class for every graph module
    for path, names in left_out.items():
        _leave_out(module, path, names)
    return module


def keep_persistence(original: nn.Module, copied: nn.Module) -> None:
    """Let a copy leave the same buffers out of its state_dict; modules that both have are left alone.

    Parameters
    ----------
    original
        Says which.
    copied
        A module with buffers at some of the same paths.
    """
    for path, own in original.named_modules(remove_duplicate=False):
        if own._non_persistent_buffers_set and own is not _submodule(copied, path):
            _leave_out(copied, path, own._non_persistent_buffers_set)


def _leave_out(module: nn.Module, path: str, names: Iterable[str]) -> None:
    owner = _submodule(module, path)
    if owner is not None:
        owner._non_persistent_buffers_set = owner._non_persistent_buffers_set | (set(names) & owner._buffers.keys())


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
