"""Random statements in which Python needs sizes: asserts, conditions, loops over parts, optional arguments, texts."""

from __future__ import annotations

from benchmarks.random_networks.builder import CHANNELS, Builder


def size_assert(b: Builder) -> None:
    """An assert about a shape, a number of axes or a dtype, with a message."""
    x = b.tensor()
    b.change(
        b.pick(
            (
                f"assert {x}.shape[1] == {x.shape[1]}, f'{{{x}.shape[1]}} channels'",
                f"assert {x}.dim() == {x.ndim} and {x}.shape[-1] > 0, 'axes'",
                f"assert {x}.is_floating_point() and {x}.device.type == 'cpu', f'{{{x}.dtype}}'",
                f"assert tuple({x}.shape[1:]) == {tuple(x.shape[1:])}, str({x}.shape)",
                f"torch._assert({x}.shape[-1] == {x.shape[-1]}, f'last axis {{{x}.shape[-1]}}')",
            )
        )
    )


def size_condition(b: Builder) -> None:
    """A conditional expression about sizes: of an image, of the channels, of whole shapes."""
    x = b.tensor(3, 4)
    y = b.tensor(x.ndim, where=lambda shape: shape == x.shape)
    axis = b.integer(1, x.ndim - 1)
    condition = b.pick(
        (
            *(f"{x}.shape[{axis}] > 3", f"{x}.size({axis}) % 2 == 0", f"{x}.shape == {y}.shape", f"{x}.ndim == 4"),
            *(f"{x}.shape[-1] != {x}.shape[1] and {x}.shape[0] > 0", f"{x}.shape[1] in (4, 6, 8)"),
            *(f"{x}.shape[2:] == {y}.shape[2:]", f"{x}.dtype in (torch.float32, torch.float64)"),
        )
    )
    b.emit(b.pick((f"{x} + {y} if {condition} else {x}", f"F.relu({x}) if {condition} else {x} * 2")))


def loop_over_parts(b: Builder) -> None:
    """A loop, a list, a star or a comprehension over the parts of a chunk, split or unbind."""
    x = b.tensor(4, where=lambda shape: shape[1] % 2 == 0)
    half = x.shape[1] // 2
    parts = b.pick((f"{x}.chunk(2, 1)", f"{x}.split({half}, 1)", f"torch.chunk({x}, 2, dim=1)"))
    layer = b.module(f"nn.Conv2d({half}, {half}, {b.pick(('1', '3, padding=1'))})")
    form = b.integer(0, 4)
    if form == 0:
        y = b.bind(f"list({parts})")
        b.change(f"{y}.extend({layer}({y}[-1]) for _ in range(2))")
        b.emit(f"torch.cat({y}, 1)")
    elif form == 1:
        b.emit(f"torch.cat([{layer}(part) for part in {parts}], 1)")
    elif form == 2:
        b.emit(f"(lambda first, *rest: torch.cat([first, *[{layer}(part) for part in rest]], 1))(*{parts})")
    elif form == 3:
        b.emit(f"sum({layer}(part) for part in {parts}) / len({parts})")
    else:
        b.emit(f"torch.stack([F.relu(row) for row in {x}.unbind({b.pick((2, 3))})], 2)")


def optional_argument(b: Builder) -> None:
    """An argument of forward that is left out: None, a flag, or a number of steps."""
    x = b.tensor()
    kind = b.integer(0, 3)
    if kind == 0:
        name = b.add_option("None")
        b.emit(f"{x} if {name} is None else {x} * {name}")
    elif kind == 1:
        name = b.add_option(b.pick(("False", "True")))
        b.emit(f"{x}.tanh() if {name} else {x} * 0.5")
    elif kind == 2:
        name = b.add_option("2")
        b.emit(f"sum(({x} / (i + 1) for i in range({name})), {x})")
    else:
        name = b.add_option("'mean'")
        b.emit(f"{x} - {x}.mean() if {name} == 'sum' else {x} * 0.9")


def python_number(b: Builder) -> None:
    """Sizes as numbers of Python: int, max, round, texts and dictionaries."""
    x = b.tensor(4)
    size = f"{x}.shape[{b.pick((2, 3))}]"
    b.emit(
        b.pick(
            (
                f"F.interpolate({x}, size=[int(n * 1.5) for n in {x}.shape[2:]])",
                f"{x} * (1 + max({size}, 3) / 8)",
                f"{x} * {{4: 0.5, 5: 0.7}}.get({size}, 0.9)",
                f"{{f'{{{size}}}': {x}, 'other': {x} * 2}}[f'{{{size}}}']",
                f"F.adaptive_avg_pool2d({x}, (round({size} / 2), 2))",
                f"{x}[:, :, : int({size} / 2 + 0.5)]",
                f"{x} * math.sqrt({x}.shape[1])",
            )
        )
    )


def created_tensor(b: Builder) -> None:
    """A tensor that is created with the sizes of another one."""
    x = b.tensor(4)
    b.emit(
        b.pick(
            (
                f"{x} + torch.arange({x}.shape[3], device={x}.device) / 8",
                f"{x} + torch.ones({x}.shape[0], 1, 1, 1, dtype={x}.dtype, device={x}.device)",
                f"torch.cat([{x}, torch.zeros({x}.shape[0], 2, *{x}.shape[2:], dtype={x}.dtype)], 1)",
                f"{x} * {x}.new_full(({x}.shape[1], 1, 1), 0.5)",
                f"{x} + torch.linspace(0, 1, {x}.shape[2], dtype={x}.dtype)[:, None]",
            )
        )
    )


def module_with_structures(b: Builder) -> None:
    """A module that takes a list, a dictionary or a dataclass of tensors, and returns one."""
    x = b.tensor(4)
    width = b.pick(CHANNELS)
    layer = b.module(f"custom.Structured({x.shape[1]}, {width})")
    given = b.pick((f"[{x}, {x} * 2]", f"{{'left': {x}, 'right': {x}.tanh()}}", f"custom.Pair({x}, {x} + 1)"))
    b.emit(f"{layer}({given}){b.pick(('[0]', '[-1]'))}")


def data_dependent_module(b: Builder) -> None:
    """A module that decides on values, and so is an operator without a rule."""
    x = b.tensor()
    b.emit(f"{b.module('custom.ByValue()')}({x})")


OPERATORS = {
    size_assert: 2,
    size_condition: 3,
    loop_over_parts: 3,
    optional_argument: 2,
    python_number: 2,
    created_tensor: 2,
    module_with_structures: 2,
    data_dependent_module: 1,
}
