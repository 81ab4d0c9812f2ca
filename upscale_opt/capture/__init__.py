"""Captures a network as a torch.fx graph, and keeps what the plain tracer of torch.fx would lose.

`tracer` is the entry point. `known_values` and `origins` track values that come from buffers. `regions`,
`custom_functions` and `hooks` keep the context of operators. `shared_memory` tracks aliasing and in-place writes.
`argument_names` gives every argument of an operator its name.
"""
