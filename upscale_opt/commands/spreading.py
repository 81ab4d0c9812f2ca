"""Makes typer commands: replaces groups of options by single options, and distinguishes typed options from defaults.

If an option has no effect beside another one, it is refused by name (`refuse`, `alone`). If it were silently ignored,
users would think that it has an effect.
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

from upscale_opt.commands import help_pages
from upscale_opt.commands.heartbeats import heartbeat
from upscale_opt.errors import UpscaleError

_CONTEXT, _RULE = "context", "_alone"
_Command = TypeVar("_Command", bound=Callable[..., None])
_TYPED: ContextVar[Mapping[str, str]] = ContextVar("typed", default=MappingProxyType({}))
_RUNNING: ContextVar[typer.Context | None] = ContextVar("running", default=None)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the dataclass parameters of a command by their fields, which are options.

    While the command runs, `refuse` knows which options were typed. If a group has a method ``check_typed``, it is
    called first, to check that these options go together.
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
            parameter.replace(
                name=option,
                kind=inspect.Parameter.KEYWORD_ONLY,
                annotation=help_pages.placed(command.__name__, option, hint),
                default=default,
            )
            for option, hint, default in own
        ]

    rule: tuple[str, Collection[str], str] | None = getattr(command, _RULE, None)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        context = values.pop(_CONTEXT)
        token, running = _TYPED.set(_flags(context)), _RUNNING.set(context)
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
            with heartbeat(context.command_path.removeprefix(context.find_root().command_path).strip()):
                command(**chosen, **values)
        finally:
            _TYPED.reset(token)
            _RUNNING.reset(running)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def alone(name: str, others: Collection[str], reason: str) -> Callable[[_Command], _Command]:
    """Mark a command for `spread`: beside the option `name`, only the options `others` are allowed.

    Parameters
    ----------
    name
        Name of the option's parameter.
    others
        Names of the options that may go with it.
    reason
        As for `refuse`.
    """

    def mark(command: _Command) -> _Command:
        setattr(command, _RULE, (name, others, reason))
        return command

    return mark


def _flags(context: typer.Context) -> dict[str, str]:
    """Names of typed parameters to their options."""
    typed = {}
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            negated = context.params.get(name) is False and parameter.secondary_opts
            typed[name] = (parameter.secondary_opts if negated else parameter.opts)[0]
    return typed


def typed_for(command: str, *, without: Collection[str] = ()) -> list[str]:
    """What the user typed, as far as another command takes it, too.

    Parameters
    ----------
    command
        Name of the other command.
    without
        Names of parameters to leave out.

    Returns
    -------
    list of str
        Arguments of a command line, each option with its value. Empty outside a command.
    """
    context = _RUNNING.get()
    group = getattr(context.parent, "command", None) if context is not None and context.parent is not None else None
    if context is None or group is None or command not in group.commands:
        return []
    taken = {parameter.name: parameter.opts for parameter in group.commands[command].params}
    found = []
    for name, option in _flags(context).items():
        parameter = next(own for own in context.command.params if own.name == name)
        if name in without or taken.get(name) != parameter.opts or not option.startswith("-"):
            continue
        value = context.params[name]
        if isinstance(value, bool):
            found.append(option)
        else:
            for own in value if isinstance(value, (list, tuple)) else (value,):
                found += [option, str(own)]
    return found


def refuse(names: Collection[str], reason: str) -> None:
    """Raise an error if one of these options was typed.

    Parameters
    ----------
    names
        Names of parameters.
    reason
        A clause that says why these options have no effect.

    Raises
    ------
    UpscaleError
        If one of them was typed. The message names it.
    """
    found = [option for name, option in _TYPED.get().items() if name in names]
    if found:
        raise UpscaleError(f"{reason}; leave out {' and '.join(found)}")
