"""How compared modules run: in float64, with the same random numbers, and always from the same state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import nn

from upscale_opt.models.double_precision import in_double_precision
from upscale_opt.models.preservation import Preservation
from upscale_opt.models.random_draws import same_draws

TOLERANCE = 1e-9
"""Largest relative error of an output of a right export, in float64."""


@contextmanager
def as_compared() -> Iterator[None]:
    """Run networks as for a comparison: in float64, and with the same random numbers."""
    with same_draws(), in_double_precision():
        yield


@dataclass
class Start:
    """The start of every run. A module that changes itself when it runs is restored afterwards.

    This object has no reference to the verifier, so an object that keeps it does not keep the masked model.
    """

    changes_itself: bool

    def same(self, module: nn.Module) -> AbstractContextManager[Preservation | None]:
        """A context that restores the module at its end."""
        return Preservation(module) if self.changes_itself else nullcontext()

    @contextmanager
    def running(self, module: nn.Module) -> Iterator[None]:
        """The context of a module's forward and backward passes."""
        with self.same(module), as_compared():
            yield
