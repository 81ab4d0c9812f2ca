"""What records during a trace, and can be told to record nothing for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Pausable:
    """Base of what records; subclasses look at `_is_paused`."""

    _is_paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside the context. Contexts may be nested."""
        self._is_paused, before = True, self._is_paused
        try:
            yield
        finally:
            self._is_paused = before
