"""How CP-SAT searches: the settings that the solver `cp-sat` hands to its models."""

from __future__ import annotations

from dataclasses import dataclass

from solvers.common.errors import SolverError


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a CP-SAT search.

    Parameters
    ----------
    num_workers
        Threads of the search. Default 1.
    max_deterministic_time
        Limit of the search in CP-SAT's deterministic seconds, all searches of a solve together. Default none.
    log
        Print CP-SAT's log. Default False.

    Raises
    ------
    SolverError
        If a limit makes no sense.
    """

    num_workers: int = 1
    max_deterministic_time: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        whole = isinstance(self.num_workers, int) and not isinstance(self.num_workers, bool)
        if not whole or self.num_workers < 1:
            raise SolverError(f"cp-sat: num_workers is {self.num_workers!r}; give a whole number of at least 1")
        if self.max_deterministic_time is not None and not self.max_deterministic_time > 0:
            raise SolverError(f"cp-sat: max_deterministic_time is {self.max_deterministic_time}; give more than 0")
