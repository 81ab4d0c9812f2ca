"""The option that chooses what captures a network."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from upscale_opt.arguments.modes import front_end


def _known(param: typer.CallbackParam, value: Any) -> Any:
    return front_end(value, param.opts[0])


FrontEnd = Annotated[
    str,
    typer.Option(
        "--front-end",
        help="What captures the network: fx (torch.fx), export (torch.export), or auto: fx, and export if fx refuses.",
        callback=_known,
    ),
]
