"""A tracer that keeps the regions of a forward (`upscale_opt.capture.regions`) and its autograd functions."""

from __future__ import annotations

import inspect
from typing import Any

from torch import fx
from torch.fx.graph_module import _CodeOnlyModule

from upscale_opt.capture.custom_functions import CustomFunctions
from upscale_opt.capture.decorated import called_as_signed
from upscale_opt.capture.hooks import called_whole, forward_of
from upscale_opt.capture.regions import Regions


class RecordingTracer(fx.Tracer):
    """A torch.fx tracer that records what affects the backward pass, or refuses it (`Untraceable`)."""

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """Trace as torch.fx does, but keep regions and autograd functions."""
        self.regions = Regions(self)
        self.functions = CustomFunctions(self, self.regions)
        with self.regions.recorded(), self.functions.recorded():
            return super().trace(root, concrete_args)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Prepare the call of the network so that its hooks run."""
        if not is_module or isinstance(self.root, _CodeOnlyModule):
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        own = forward_of(self.root, root_fn)
        forward, inputs = super().create_args_for_root(inspect.unwrap(own), True, concrete_args)
        return called_whole(forward if inspect.unwrap(own) is own else called_as_signed(own)), inputs

    def create_node(self, *arguments: Any, **named: Any) -> fx.Node:
        """Create a node, after a check that the modes of torch come from recorded regions only."""
        self.regions.require_known()
        return super().create_node(*arguments, **named)
