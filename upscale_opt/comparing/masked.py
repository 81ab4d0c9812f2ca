"""What the stages of a comparison need to know of a masked model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from torch import nn

from problems import Problem
from upscale_opt.latency.measured_costs import MeasuredTable
from upscale_opt.masking.rounding import KeptChannels
from upscale_opt.planning.cost_model import CostModel
from upscale_opt.planning.plans import Plan
from upscale_opt.tracing.graphs import Graph
from upscale_opt.verifying.verification import Verifier


class Masked(Protocol):
    """A traced and masked model, as `upscale_opt.prune` returns it (`upscale_opt.MaskedModel`)."""

    @property
    def model(self) -> nn.Module:
        """The original model, unchanged."""
        ...

    @property
    def example_inputs(self) -> Any:
        """The example inputs, unchanged."""
        ...

    @property
    def graph(self) -> Graph:
        """The trace."""
        ...

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """Weight name to the mask of a consumer's input channels."""
        ...

    @property
    def output_masks(self) -> Mapping[str, np.ndarray]:
        """Weight name to the mask of a producer's output channels."""
        ...

    @property
    def messages(self) -> tuple[str, ...]:
        """Messages about the masks."""
        ...

    @property
    def report(self) -> tuple[KeptChannels, ...]:
        """How many channels each consumer keeps."""
        ...

    @property
    def problems(self) -> Mapping[str, Problem]:
        """Segment name to ordering problem."""
        ...

    @property
    def costs(self) -> CostModel | None:
        """The source of the problems' cost tables."""
        ...

    @property
    def trace_seconds(self) -> float:
        """Seconds for trace, masks and extraction."""
        ...

    @property
    def tables(self) -> Mapping[str, MeasuredTable]:
        """Access name to measured table."""
        ...

    def read_cheaply(self, chosen: Plan) -> Plan:
        """Change a plan to the cheapest readings."""
        ...

    def floor(self) -> nn.Module:
        """The network that no order can beat."""
        ...

    def verifier(self) -> Verifier:
        """The verifier for exports of this model."""
        ...
