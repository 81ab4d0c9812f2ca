"""How modules run that are compared: in float64, with the same random numbers, and each time from the same state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from torch import nn

from upscale_opt.models.double_precision import in_double_precision
from upscale_opt.models.preservation import Preservation
from upscale_opt.models.random_draws import same_draws


@contextmanager
def as_compared() -> Iterator[None]:
    """How networks are compared: in float64, and with the same random numbers."""
    with same_draws(), in_double_precision():
        yield


@dataclass
class Start:
    """How every run begins: a module that changes itself when it is run is put back afterwards.

    It knows nothing of the verifier, so that whoever keeps it keeps no masked model.
    """

    changes_itself: bool

    def same(self, module: nn.Module) -> AbstractContextManager[Preservation | None]:
        """A context after which the module is as it was."""
        return Preservation(module) if self.changes_itself else nullcontext()

    @contextmanager
    def running(self, module: nn.Module) -> Iterator[None]:
        """How the forward and backward passes of a module run."""
        with self.same(module), as_compared():
            yield
