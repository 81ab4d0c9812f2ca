"""The module of a traced network. Copies and pickles of it keep all buffers as buffers, with the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import fx, nn

from upscale_opt.capture.proxies import Proxy
from upscale_opt.capture.recording import RecordingTracer


class TracedModule(fx.GraphModule):
    """A `torch.fx.GraphModule` whose copies have the same non-persistent buffers."""

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
    """The tracer with which torch rebuilds a module from a pickle: it traces the code again.

    Buffers, in-place changes and regions are kept.
    """

    proxy_buffer_attributes = True

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of a node's result."""
        return Proxy(node, self)


def _unpickled(make: Callable[..., nn.Module], arguments: tuple[Any, ...], left_out: dict[str, list[str]]) -> nn.Module:
    module = make(*arguments)
    type(module).__bases__ = (TracedModule,)  # torch creates a new class for every graph module
    for path, names in left_out.items():
        _leave_out(module, path, names)
    return module


def keep_persistence(original: nn.Module, copied: nn.Module) -> None:
    """Mark the same buffers of a copy as non-persistent. Submodules that both share are not changed.

    Parameters
    ----------
    original
        The module with the non-persistent buffers.
    copied
        A module with buffers at some of the same paths. It is changed in place.
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
