"""Lifts programs of `torch.export` back into networks: modules, functions and methods instead of ATen operators.

`capture` is the second front end of `upscale_opt.trace`, and `lifted` makes a network of a program that a user has.
`programs` runs `torch.export`, `lifter` translates its graph, with `calls` and `decomposed` for single operators,
`groups` for the operators of one module, `signatures` for inputs and outputs, and `guards` for what the program takes
for granted about sizes. `rebuilt` makes modules for a program whose network is not at hand.
"""
