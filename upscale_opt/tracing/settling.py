"""What a trace took from the example inputs: nodes that answered only questions go, and exports check the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import fx

from upscale_opt.capture.node_runs import NodeRun
from upscale_opt.capture.tracer import Tracing
from upscale_opt.channels.flow import Flow
from upscale_opt.models.nested import map_tensors
from upscale_opt.operators.sizes import counted_by
from upscale_opt.tracing.graphs import Graph
from upscale_opt.tracing.meta_shapes import run_on
from upscale_opt.tracing.validity import Validity, erase_answered, insert_guards, validity_of


def settle(found: Tracing, inputs: tuple[Any, ...]) -> tuple[Validity, NodeRun] | None:
    """Find out which settled values depend on the sizes of the inputs, and erase the nodes of the others.

    Return for which sizes the trace holds, and the run of the traced model on the example inputs. Return None if
    nothing was settled, or if the network rejects the inputs.
    """
    if not found.settled:
        return None
    run, failed = run_on(found.module, inputs, found.known)
    if failed is not None:
        return None
    validity = validity_of(found.module, inputs, found.settled, found.known, run)
    erase_answered(found.module, found.settled, list(validity.conditions), run)
    found.module.recompile()
    return validity, run


def guarded(
    graph: Graph, flow: Flow, holds: tuple[Validity, NodeRun] | None, found: Tracing, inputs: tuple[Any, ...]
) -> Graph:
    """Return a graph that knows its inputs and what was settled. Its module checks what depends on sizes."""
    result = replace(graph, inputs=map_tensors(lambda x: x.to("meta"), inputs), settled=found.settled)
    if holds is None:
        return result
    validity, run = holds

    def counts_channels(node: fx.Node) -> bool:
        layout = flow.layout(node)
        return len(counted_by(flow.sizes.get(node.name))) > 0 or (layout is not None and layout.axis == 0)

    made = insert_guards(found.module, list(validity.conditions), counts_channels, run)
    result = replace(result, shapes={**graph.shapes, **{node.name: None for node in made}})
    result.__dict__["validity"] = validity
    found.module.recompile()
    return result
