"""Commands as typer sees them: groups of options spread out, and what was typed kept apart from what is the default.

An option that says nothing beside another one is refused by name (`refuse`, `alone`): silence would be taken for
consent.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

import typer

from upscale_opt.errors import UpscaleError

_CONTEXT, _RULE = "context", "_alone"
_Command = TypeVar("_Command", bound=Callable[..., None])
_TYPED: ContextVar[Mapping[str, str]] = ContextVar("typed", default=MappingProxyType({}))


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the fields of its dataclass parameters, all options, in place of the parameters themselves.

    While it runs, `refuse` knows which options were typed. A group that has a method ``check_typed`` is asked first
    whether they go together.
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

    rule: tuple[str, Collection[str], str] | None = getattr(command, _RULE, None)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        token = _TYPED.set(_flags(values.pop(_CONTEXT)))
        try:
            if rule is not None and rule[0] in _TYPED.get():
                refuse(_TYPED.get().keys() - {rule[0], *rule[1]}, rule[2])
            chosen = {
                name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
                for name, kind in kinds.items()
            }
            for group in chosen.values():
                if hasattr(group, "check_typed"):
                    group.check_typed()
            command(**chosen, **values)
        finally:
            _TYPED.reset(token)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def alone(name: str, others: Collection[str], reason: str) -> Callable[[_Command], _Command]:
    """Mark a command, for `spread`: beside one option only some others have an effect, the rest is refused.

    Parameters
    ----------
    name
        Name of the option's parameter.
    others
        Those of the options that may go with it.
    reason
        As of `refuse`.
    """

    def mark(command: _Command) -> _Command:
        setattr(command, _RULE, (name, others, reason))
        return command

    return mark


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
