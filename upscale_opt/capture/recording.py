"""A tracer that keeps the regions of a forward and its autograd functions; see `upscale_opt.capture.regions`."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.graph_module import _CodeOnlyModule

from upscale_opt.capture.custom_functions import CustomFunctions
from upscale_opt.capture.hooks import called_whole, forward_of
from upscale_opt.capture.regions import Regions


class RecordingTracer(fx.Tracer):
    """torch.fx's tracer; what it would lose of a network's backward pass is recorded, or refused (`Untraceable`)."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """As torch.fx does, but regions and autograd functions are kept."""
        self.regions = Regions(self)
        self.functions = CustomFunctions(self, self.regions)
        with self.regions.recorded(), self.functions.recorded():
            return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """The network is called with its hooks."""
        if not is_module or isinstance(self.root, _CodeOnlyModule):
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        forward, inputs = super().create_args_for_root(forward_of(self.root, root_fn), True, concrete_args)
        return called_whole(forward), inputs

    def create_node(self, *arguments: Any, **named: Any) -> fx.Node:
        """Every node is in the regions that were entered."""
        self.regions.require_known()
        return super().create_node(*arguments, **named)
