"""Parameters and buffers that follow channels in one place, and are used as a whole in another: they pin channels."""

from __future__ import annotations

from torch import fx

from upscale_opt.channels.derivations import asks_for_kind
from upscale_opt.channels.flow import Flow
from upscale_opt.models.attributes import attribute_of


def buffers_used_whole(flow: Flow) -> frozenset[int]:
    """Return the identities of buffers that follow channels in one place, and are used as a whole in another."""
    whole = _used_whole(flow) & {tensor for tensor, _ in flow.bound}
    return frozenset(id(tensor) for tensor in flow.traced.buffers() if id(tensor) in whole)


def pin_shared(flow: Flow) -> frozenset[str]:
    """Pin the channels of parameters and buffers that are also used as a whole.

    Return the names of the read nodes whose weights are among them. The caller must refuse these nodes.
    """
    _give_up_picks(flow)
    whole = _used_whole(flow)
    for (tensor, _), channels in flow.bound.items():
        if tensor in whole:
            flow.table.pin(channels, "a parameter is used elsewhere, too", "get_attr")
    return frozenset(read.node for read in flow.reads if id(flow.parameter(read.weight)) in whole)


def _used_whole(flow: Flow) -> set[int]:
    """Return the identities of tensors of which at least one use does not follow channels."""
    reads = [node for node in flow.traced.graph.nodes if node.op == "get_attr" and not _is_followed(flow, node)]
    return {*flow.foreign, *(id(attribute_of(flow.traced, str(node.target))) for node in reads)}


def _give_up_picks(flow: Flow) -> None:
    """Remove the picks of users about whose outputs nothing is known. These users get the whole tensor."""
    for user, node, axis in [key for key in flow.picks if flow.values.get(key[0]) is None]:
        channels = flow.picks.pop((user, node, axis)).channels
        flow.table.pin(channels, flow.reasons.get(user, "constant along the channel axis"), user)


def _is_followed(flow: Flow, node: fx.Node) -> bool:
    """Whether all uses of a parameter, and of tensors computed from it, are known to follow channels."""
    return all(
        asks_for_kind(user)
        or (
            (user.name, node.name) in flow.attribute_uses
            and ((flow.values.get(user.name) is not None and user.name not in flow.derived) or _is_followed(flow, user))
        )
        for user in node.users
    )
