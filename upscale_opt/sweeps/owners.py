"""Who works on a cell: a run, as other runs on the same store see it."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

LEASE_SECONDS = 120.0
"""A run on another machine counts as dead if it has not said for so long that it is alive."""
RENEWAL_SECONDS = 15.0


@dataclass(frozen=True)
class Owner:
    """A process on a machine.

    Attributes
    ----------
    host
        Name of the machine, of this start of it, and of its numbering of processes (containers have their own).
    process
        Number and start of the process. A number alone may be given again.
    """

    host: str
    process: str

    def __str__(self) -> str:
        return f"{self.host} {self.process}"

    def is_gone(self, renewed: float, now: float) -> bool:
        """Whether an owner of a claim has ended, as far as this process can know.

        Parameters
        ----------
        renewed, now
            Seconds: when the owner last renewed its claims, and now.
        """
        if self.host == this_host():
            return _started(self.process.partition("/")[0]) != self.process.partition("/")[2]
        return now - renewed > LEASE_SECONDS


def this_host() -> str:
    """The machine of this process."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(parts)


def this_process() -> Owner:
    """The owner that stands for this process."""
    return Owner(this_host(), f"{os.getpid()}/{_started(str(os.getpid()))}")


def owner_of(text: str) -> Owner:
    """The owner with this text.

    Examples
    --------
    >>> owner = this_process()
    >>> owner_of(str(owner)) == owner, owner.is_gone(0, 1000), Owner(owner.host, "1/no time").is_gone(0, 0)
    (True, False, True)
    """
    host, _, process = text.rpartition(" ")
    return Owner(host, process)


def _started(process: str) -> str:
    """When a process of this machine started, in ticks since the machine did. ``0`` if it has ended.

    Where the system does not tell, a process that exists counts as the same.
    """
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "0" if after_name[0] in "ZX" else after_name[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return "0"
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return "0"
    except PermissionError:
        pass
    return "alive"
