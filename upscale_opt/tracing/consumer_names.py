"""Finds consumers by the names that users give: names of weights or modules, and patterns of such names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from upscale_opt.arguments.checks import described
from upscale_opt.errors import MaskError
from upscale_opt.models.wrappers import plain_name
from upscale_opt.tracing.graphs import Graph


def consumer_named(graph: Graph, name: str) -> str:
    """Return the weight name of a consumer.

    `name` is the name of its weight or its module, with or without wrappers' prefixes (``module.conv``).

    Raises
    ------
    MaskError
        If the network calls no such consumer. The message has similar names.
    """
    if not isinstance(name, str):
        raise MaskError(f"a mask is given for {described(name)}; give masks by the names of weights or modules")
    plain = plain_name(name)
    for weight in (name, f"{name}.weight", plain, f"{plain}.weight"):
        if graph.aliases.get(weight, weight) in graph.consumers:
            return graph.aliases.get(weight, weight)
    raise MaskError(f"{name!r} is no convolution or linear layer that the network calls; {_hint(graph, name)}")


def consumers_matching(graph: Graph, patterns: Iterable[str]) -> frozenset[str]:
    """Return the weight names of all consumers that match any of the patterns.

    Parameters
    ----------
    graph
        The traced model.
    patterns
        Names of weights or modules, with the wildcards of `fnmatch`: ``fc``, ``layer4.*``, ``*.downsample.0``.

    Raises
    ------
    MaskError
        If a pattern matches no consumer. The message has similar names.
    """
    if isinstance(patterns, str):
        patterns = [patterns]
    found: set[str] = set()
    names = _all_names(graph)
    for pattern in patterns:
        matching = {weight for name, weight in names.items() if fnmatchcase(name, pattern)}
        if not matching:
            inside = any(name.startswith(f"{pattern}.") for name in names)
            hint = f"did you mean {pattern}.*?" if inside else _hint(graph, pattern)
            raise MaskError(f"the pattern {pattern!r} matches no convolution or linear layer of the network; {hint}")
        found |= matching
    return frozenset(found)


def _all_names(graph: Graph) -> dict[str, str]:
    """Map every name of every consumer to the name of its weight."""
    weights = {name: name for name in graph.consumers}
    weights |= {alias: first for alias, first in graph.aliases.items() if first in graph.consumers}
    return {name.removesuffix(".weight"): first for name, first in weights.items()} | weights


def _hint(graph: Graph, name: str) -> str:
    modules = [weight.removesuffix(".weight") for weight in graph.consumers]
    near = difflib.get_close_matches(name, [*graph.consumers, *modules], n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(list(graph.consumers)[:5])}, ..."
