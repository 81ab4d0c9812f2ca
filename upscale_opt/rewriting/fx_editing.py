"""Editing an fx module: the few things that all parts of a rewriting do to it."""

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
        Edited in place.

    Attributes
    ----------
    nodes
        What the tensor of each of the original nodes is computed by now, by the original name.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.nodes = {node.name: node for node in module.graph.nodes}
        self._gathers: dict[tuple[fx.Node, int, bytes], fx.Node] = {}

    def add(self, path: str, submodule: nn.Module) -> str:
        """Add a module under a path like the given one that is free; returns the path.

        An export that is exported again has such modules already.
        """
        taken = {name for name, _ in self.module.named_modules()}
        free = next(own for i in itertools.count(1) if (own := path if i == 1 else f"{path}_{i}") not in taken)
        self.module.add_submodule(free, submodule)
        return free

    def index(self, numbers: np.ndarray) -> torch.Tensor:
        """Numbers as a tensor on the module's device."""
        return torch.from_numpy(numbers).to(next(self.module.parameters(), torch.empty(0)).device)

    def narrow(self, source: Any, axis: int, start: int, length: int) -> fx.Node:
        """A range of a tensor: a view. The method, since `torch.narrow` takes twice as long to be called."""
        return self.module.graph.call_method("narrow", (source, axis, start, length))

    def gather(self, source: fx.Node, path: str, index: np.ndarray, axis: int, *, shared: bool = False) -> fx.Node:
        """A copy of some entries of an axis.

        Parameters
        ----------
        source
            The tensor.
        path
            Of the module, if one has to be made.
        index
            int64: which entries.
        axis
            Of the tensor.
        shared
            Make it where the tensor is made, for all who want the same entries of it. Nothing may write into the tensor
            in the meantime.
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
        """Several tensors, one after the other; a single one is itself."""
        return pieces[0] if len(pieces) == 1 else self.module.graph.call_function(torch.cat, (pieces, axis))

    def substitute(self, node: fx.Node, other: fx.Node, kept: Any) -> None:
        """Let another node take a node's place, and drop what nobody needs any more.

        Parameters
        ----------
        node, other
            The node that goes and the one that comes.
        kept
            Names of nodes that are not dropped.
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
    """The contiguous runs of ascending positions, none of them empty."""
    return np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1) if len(positions) else []
