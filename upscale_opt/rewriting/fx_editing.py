"""Edits of an fx module that all parts of a rewriting need."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from upscale_opt.modules.selections import Gather


class Editor:
    """A GraphModule under construction.

    Parameters
    ----------
    module
        The module to edit. It is changed in place.

    Attributes
    ----------
    nodes
        Original node name to the node that computes its tensor now.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.nodes = {node.name: node for node in module.graph.nodes}
        self._gathers: dict[tuple[fx.Node, int, bytes], fx.Node] = {}

    def add(self, path: str, submodule: nn.Module) -> str:
        """Add a module under the given path, or a similar path if that is taken. Returns the path.

        It is taken if an export is exported again: it already has such modules.
        """
        taken = {name for name, _ in self.module.named_modules()}
        free = next(own for i in itertools.count(1) if (own := path if i == 1 else f"{path}_{i}") not in taken)
        self.module.add_submodule(free, submodule)
        return free

    def index(self, numbers: np.ndarray) -> torch.Tensor:
        """Convert numbers to a tensor on the module's device."""
        return torch.from_numpy(numbers).to(next(self.module.parameters(), torch.empty(0)).device)

    def narrow(self, source: Any, axis: int, start: int, length: int) -> fx.Node:
        """A range of a tensor, as a view. It uses the method, because a call of `torch.narrow` takes twice as long."""
        return self.module.graph.call_method("narrow", (source, axis, start, length))

    def gather(self, source: fx.Node, path: str, index: np.ndarray, axis: int, *, shared: bool = False) -> fx.Node:
        """A copy of selected entries of an axis.

        Parameters
        ----------
        source
            The tensor.
        path
            Path of the module, if a new one is needed.
        index
            int64: the entries to copy.
        axis
            The axis of the tensor.
        shared
            Make the copy directly after the tensor, once for all users of the same entries. Nothing may write into the
            tensor before the last of these users.
        """
        key = (source, axis, index.tobytes())
        if shared and key in self._gathers:
            return self._gathers[key]
        made = self.add(path, Gather(self.index(index), axis))
        if not shared:
            return self.module.graph.call_module(made, (source,))
        behind = source
        while behind.op == "placeholder" and behind.next.op == "placeholder":
            behind = behind.next
        with self.module.graph.inserting_after(behind):
            self._gathers[key] = self.module.graph.call_module(made, (source,))
        return self._gathers[key]

    def concat(self, pieces: list[fx.Node], axis: int) -> fx.Node:
        """Concatenate tensors. A single tensor is returned unchanged."""
        return pieces[0] if len(pieces) == 1 else self.module.graph.call_function(torch.cat, (pieces, axis))

    def substitute(self, node: fx.Node, other: fx.Node, kept: Any) -> None:
        """Replace a node by another node, and erase nodes without users.

        Parameters
        ----------
        node, other
            The old node and the new node.
        kept
            Names of nodes that are not erased.
        """
        node.replace_all_uses_with(other)
        self.nodes[node.name] = other
        waiting, dropped = [node], set[str]()
        while waiting:
            last = waiting.pop()
            if last.users or last.name in dropped or last.op in ("placeholder", "output"):
                continue
            waiting += [x for x in last.all_input_nodes if x.name not in kept]
            self.module.graph.erase_node(last)
            dropped.add(last.name)


def runs_of(positions: np.ndarray) -> list[np.ndarray]:
    """Split ascending positions into contiguous runs. No run is empty."""
    return np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1) if len(positions) else []
