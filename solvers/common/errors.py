"""The error of the middle floor: a solve that cannot be done as asked, or a solver caught out by the gate."""


class SolverError(ValueError):
    """A solve that cannot be done as asked, or a result that did not pass the gate; the message says what to do."""
