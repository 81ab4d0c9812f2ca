"""The problems of a network's segments, with fingerprints of the values that the trace depends on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from problems import Problem
from upscale_opt.tracing.fingerprints import Fingerprint


class Problems(dict[str, Problem]):
    """Segment name to problem: a dictionary that also carries what a plan must store about the network.

    Parameters
    ----------
    problems
        Segment name to problem.
    fixed
        The values that the network's code depends on (`upscale_opt.tracing.graphs.Graph.fixed`).
    padding
        Block name to the channels that are stored although no consumer keeps them.
    """

    def __init__(
        self,
        problems: Mapping[str, Problem],
        fixed: Mapping[str, Fingerprint],
        padding: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(problems)
        self.fixed = dict(fixed)
        self.padding = dict(padding or {})
