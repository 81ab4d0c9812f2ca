"""The error of this package: an invalid problem, order or file."""


class ProblemError(ValueError):
    """A problem, an order or a file is invalid. The message says what to do."""
