"""Forwards behind decorators that take ``*args`` and ``**kwargs``, such as those of transformers.

torch.fx reads the parameters of the innermost function, and then gives all of them to the decorator's function by
position. That function takes the third one for its ``**kwargs``. Here it is called as its user calls it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def called_as_signed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a decorated forward: ``f(network, *values)``.

    Parameters
    ----------
    forward
        The decorator's function. The values of its innermost function's parameters come in the order of torch.fx:
        positional parameters, keyword-only ones, ``*args``, ``**kwargs``. What has its default value is left out, as in
        the user's call.
    """
    parameters = list(inspect.signature(inspect.unwrap(forward)).parameters.values())[1:]
    by_place = [own for own in parameters if own.kind in (own.POSITIONAL_ONLY, own.POSITIONAL_OR_KEYWORD)]
    by_name = [own for own in parameters if own.kind is own.KEYWORD_ONLY]
    rest = [own for own in parameters if own.kind is own.VAR_POSITIONAL]

    def call(network: Any, *values: Any) -> Any:
        given, named = list(values[: len(by_place)]), values[len(by_place) :]
        others = tuple(named[len(by_name)]) if rest else ()
        while given and not others and given[-1] is by_place[len(given) - 1].default:
            given.pop()
        kept = {own.name: value for own, value in zip(by_name, named, strict=False) if value is not own.default}
        more = named[len(by_name) + len(rest) :]
        return forward(network, *given, *others, **kept, **(more[0] if more else {}))

    return call
