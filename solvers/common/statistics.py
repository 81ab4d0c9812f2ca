"""The names in `Result.stats`: what every figure means. Which of them a result has depends on the methods that ran."""

from __future__ import annotations

STATISTICS: dict[str, str] = {
    "accesses_of_a_group": "accesses of the largest groups of accesses that were solved to bound them all",
    "arrangements": "orders of channels there are (brute-force), or arrangements of units (problems with bundles)",
    "assignment_bound": "bound on the runs from an assignment of classes to the next ones",
    "assignment_value": "value after the start made of that assignment",
    "classes": "signature classes of the problem",
    "conflicts": "sets of accesses known that cannot all be views",
    "covers": "covering problems solved over such sets",
    "deterministic_time": "seconds of CP-SAT's own, which do not depend on the machine",
    "first_value": "value before the large neighbourhoods",
    "given_bound": "the lower bound given to the solve, if no method found a better one",
    "groups": "groups of accesses that were solved to bound them all",
    "methods": "names of the methods that ran, in order",
    "minorant": "1 if CP-SAT bounded concave costs below the true ones, otherwise 0",
    "nearest_bound": "bound on the runs from the two nearest neighbours of every class",
    "nearest_value": "value after the start made of nearest neighbours",
    "neighbourhoods": "large neighbourhoods searched",
    "nodes": "nodes of a branch and bound that were solved",
    "obstructions": "over-read channels, forced by three channels and the chains between them, that bound the cost",
    "packings": "packings of such obstructions into the costs",
    "parts": "parts of the problem that touch no common channels",
    "programs": "linear programs solved for tours",
    "rounds": "rounds of CP-SAT and of the consecutive-ones test in turn",
    "solved": "arrangements of units that were solved or ruled out",
    "steps": "steps of a local search",
    "tried": "orders of channels that were tried",
    "units": "what a constraint program moves: classes, or single channels",
    "width": "width of the last beam that ended in all blocks",
    "work": "work of the solve, if work was counted instead of time",
}
"""Name to meaning."""
