"""How channels flow through operators: rules, and the table that says which operator has which rule.

A rule is a function ``rule(flow, node)``: it looks at what is known of the node's inputs through `flow`
(`upscale_opt.channels.flow.Flow`), ties, cuts or pins channels, and returns what is known of the output (a `Layout` for
a tensor with channels). A rule that meets a case it does not understand returns ``flow.unknown(node)``, which pins:
never guess. To teach the tracer an operator, add an entry to `upscale_opt.operators.table` and a test, or call
`register`.
"""

from upscale_opt.operators.table import Rule, register

__all__ = ["Rule", "register"]
