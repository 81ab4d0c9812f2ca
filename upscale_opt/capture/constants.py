"""Constants that a forward creates and changes in place.

The network creates a new tensor in every call, but a trace creates it only once.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import fx, nn

from upscale_opt.capture.shared_memory import Memory

_PREFIX = "_tensor_constant"  # torch.fx's name prefix for constants of the code


def renew_changed(traced: fx.GraphModule, model: nn.Module) -> None:
    """Make every call of a traced model start with a fresh copy of the constants that it changes in place.

    ``total = torch.zeros(8); total += x`` starts at zero in every call of the network. Without this function the
    traced model would use one tensor for all calls.

    Parameters
    ----------
    traced
        The traced model. It is changed in place.
    model
        The original network. Tensors that belong to it are not copied, so they keep the values written into them.
    """
    constants: dict[str, list[fx.Node]] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr" and str(node.target).startswith(_PREFIX) and not hasattr(model, str(node.target)):
            constants.setdefault(str(node.target), []).append(node)
    memory = Memory(traced) if constants else None
    for nodes in constants.values():
        if memory is None or not any(memory.is_overwritten(node) for node in nodes):
            continue
        with traced.graph.inserting_after(nodes[0]):
            fresh = traced.graph.call_method("clone", (nodes[0],))
        for node in nodes:
            node.replace_all_uses_with(fresh, delete_user_cb=_is_other_than(fresh))
        for node in nodes[1:]:
            traced.graph.erase_node(node)
    traced.recompile()


def _is_other_than(node: fx.Node) -> Callable[[fx.Node], bool]:
    return lambda user: user is not node
