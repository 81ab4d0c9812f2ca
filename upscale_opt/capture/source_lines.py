"""Source lines of a network's forward: where a node comes from, and where Python needs a value."""

from __future__ import annotations

import dis
import functools
import linecache
import os
import sys
from dataclasses import dataclass
from types import CodeType, FrameType, TracebackType

import torch

_OWN = tuple(os.path.dirname(os.path.dirname(os.path.abspath(path))) + os.sep for path in (__file__,))
_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep
PLACE = "source line"
"""Key in a node's ``meta``: the `Place` whose execution created the node."""


@dataclass(frozen=True)
class Place:
    """A line of source code.

    Attributes
    ----------
    file, number
        Path of the file, and number of the line.
    """

    file: str
    number: int

    @property
    def text(self) -> str:
        """The line without its indentation. Empty if the source is not at hand."""
        return linecache.getline(self.file, self.number).strip()

    def __str__(self) -> str:
        text = f" (`{self.text}`)" if self.text else ""
        return f"line {self.number} of {os.path.basename(self.file)}{text}"


def current_place() -> Place | None:
    """Return the line of the network's code that is running. None if there is none on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_of_network(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def current_instruction() -> tuple[int, int] | None:
    """Return the frame of the network's code that is running, and its instruction. None if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_of_network(frame.f_code.co_filename):
        frame = frame.f_back
    return None if frame is None else (id(frame), frame.f_lasti)


def place_of_error(error: BaseException) -> Place | None:
    """Return the last line of the network's code in the traceback of an error."""
    found = None
    step: TracebackType | None = error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        found = Place(file, step.tb_lineno) if is_of_network(file) else found
        step = step.tb_next
    return found


def is_of_network(file: str) -> bool:
    """Whether a file is neither of torch nor of this package (its code runs around the network's)."""
    return not file.startswith((_TORCH, *_OWN)) and not file.startswith(("<frozen", "<eval_with_key>"))


def asks_for_class(frame: FrameType) -> bool:
    """Whether a frame is of the network's code and asks for an object's type: `isinstance`, ``__class__``, a pattern.

    `torch.is_tensor` asks for its caller. So do the classes of ``collections.abc``.

    Functions of torch that are written in C ask, too, and then read the object's memory as that of a tensor. They have
    no frame of their own, so the instruction that calls them has to tell.
    """
    if frame.f_code is torch.is_tensor.__code__:
        return frame.f_back is not None and is_of_network(frame.f_back.f_code.co_filename)
    if frame.f_code.co_filename == "<frozen abc>" and frame.f_back is not None:
        frame = frame.f_back
    return is_of_network(frame.f_code.co_filename) and frame.f_lasti in _asking(frame.f_code)


@functools.lru_cache(maxsize=1024)
def _asking(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions that ask for a type."""
    instructions = list(dis.get_instructions(code))
    calls = {_start_of(own) for own in instructions if own.argval == "isinstance"}
    return frozenset(
        own.offset
        for own in instructions
        if own.opname == "MATCH_CLASS" or own.argval == "__class__" or _start_of(own) in calls
    )


def _start_of(instruction: dis.Instruction) -> tuple[int | None, int | None]:
    """Line and column where the expression of an instruction begins: that of a call begins with what is called."""
    place = instruction.positions
    return (None, None) if place is None else (place.lineno, place.col_offset)
