"""How an export carries out the writes of masked producers: as data, for reports."""

from __future__ import annotations

from dataclasses import dataclass

IN_PLACE, IN_COPY, PADDED, WHOLE, LEFT_OUT = "in place", "in a copy", "padded", "whole", "left out"


@dataclass(frozen=True)
class WriteForm:
    """How one masked producer writes.

    Attributes
    ----------
    name
        Name of the access, ``write`` and the producer's name.
    form
        ``in place``: its rows are added to their channels of the other tensor, and nothing else is moved. (A call that
        records gradients copies the other tensor first.) ``in a copy``: the other tensor is copied first, in every
        call. ``padded``: the producer is the first one to write; its rows are written between zeros. ``whole``: all
        stored channels are computed, and those that the mask drops are zero. ``left out``: no channel that it writes
        is stored, so it is not computed.
    start, stop
        The smallest range of stored channels that holds what it writes.
    stored
        Number of channels of the tensor that it writes to.
    is_range
        Whether a whole range is added. Otherwise its rows are added one by one, by their indices.
    reason
        Why it is no addition in place. Empty if it is one, or if there is nothing to add or to save.
    """

    name: str
    form: str
    start: int
    stop: int
    stored: int
    is_range: bool = True
    reason: str = ""

    def __str__(self) -> str:
        where = f"{self.name}: channels {self.start} to {self.stop - 1} of {self.stored}, {self.form}"
        by_index = "" if self.is_range else ", by index"
        return f"{where}{by_index}" + (f" ({self.reason})" if self.reason else "")
