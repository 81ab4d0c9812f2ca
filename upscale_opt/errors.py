"""The errors of the top floor; each message is one sentence that says what to do."""

from __future__ import annotations


class UpscaleError(Exception):
    """Bad input or a request that cannot be carried out; the command line exits with code 2."""


class ModelError(UpscaleError):
    """A model that cannot be built, loaded, traced or run."""


class MaskError(UpscaleError):
    """A mask, or an amount, that does not fit the model."""


class PlanError(UpscaleError):
    """A plan that does not fit the model, or a plan file that cannot be used."""


class LearningError(UpscaleError):
    """Data, settings or a checkpoint that a training cannot use."""


class SweepError(UpscaleError):
    """A sweep file, or a store of a sweep, that cannot be used."""


class VerificationError(UpscaleError):
    """An export that does not compute what the masked model computes; the command line exits with code 1."""


class UpscaleWarning(UserWarning):
    """Something was done that is hardly what was meant, such as an export that removes nothing."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind: for sentences of our own about errors of others."""
    return str(error).strip().split("\n")[0] or type(error).__name__
