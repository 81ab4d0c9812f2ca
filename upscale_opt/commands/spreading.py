"""Commands as typer sees them: groups of options spread out, and what was typed kept apart from what is the default.

An option that says nothing beside another one is refused by name (`refuse`, `allow_only`): silence would be taken for
consent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import typer

from upscale_opt.errors import UpscaleError

_CONTEXT = "context"
_TYPED: ContextVar[Mapping[str, str]] = ContextVar("typed", default={})


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the fields of its dataclass parameters, all options, in place of the parameters themselves.

    While it runs, `typed` knows which options were given.
    """
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    kinds: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters = [inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for name, parameter in signature.parameters.items():
        own = [(name, hints[name], parameter.default)]
        if name in kinds:
            inner = get_type_hints(kinds[name], include_extras=True)
            own = [(field.name, inner[field.name], field.default) for field in fields(kinds[name])]
        parameters += [
            parameter.replace(name=option, kind=inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)
            for option, hint, default in own
        ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        token = _TYPED.set(_flags(values.pop(_CONTEXT)))
        try:
            chosen = {
                name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
                for name, kind in kinds.items()
            }
            command(**chosen, **values)
        finally:
            _TYPED.reset(token)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def _flags(context: typer.Context) -> dict[str, str]:
    """Names of parameters that were typed, to their options."""
    typed = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            negated = context.params.get(name) is False and parameter.secondary_opts
            typed[name] = (parameter.secondary_opts if negated else parameter.opts)[0]
    return typed


def typed(name: str) -> bool:
    """Whether an option was typed, by the name of its parameter; its value may be the default all the same."""
    return name in _TYPED.get()


def refuse(names: Collection[str], reason: str) -> None:
    """Raise if one of these options was typed.

    Parameters
    ----------
    names
        Names of parameters.
    reason
        A clause that says why they have no effect.

    Raises
    ------
    UpscaleError
        If one was typed; it is named.
    """
    found = [option for name, option in _TYPED.get().items() if name in names]
    if found:
        raise UpscaleError(f"{reason}; leave out {' and '.join(found)}")


def allow_only(names: Collection[str], reason: str) -> None:
    """As `refuse`, for all options but these."""
    refuse(_TYPED.get().keys() - set(names), reason)
