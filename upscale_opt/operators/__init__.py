"""Operator rules: how channels pass through each operator, and the table from operators to rules.

A rule is a function ``rule(flow, node)``. It reads what is known about the node's inputs from `flow`
(`upscale_opt.channels.flow.Flow`). It ties, cuts or pins channels, and returns what is known about the output (a
`Layout` for a tensor with channels). A rule must never guess. In a case that it does not support, it returns
``flow.unknown(node)``, which pins the channels. To add an operator, add an entry to `upscale_opt.operators.table` and
a test, or call `register`.
"""

from upscale_opt.operators.table import Rule, register

__all__ = ["Rule", "register"]
