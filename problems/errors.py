"""The errors of the ground floor: an ill-formed problem, order or file."""


class ProblemError(ValueError):
    """A problem, an order or an instance file that does not make sense; the message says what to do."""
