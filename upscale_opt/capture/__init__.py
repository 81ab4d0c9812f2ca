"""From a network to a torch.fx graph in which nothing is lost that torch.fx would lose.

`tracer` is the way in; `known_values` and `origins` know what buffers hold, `regions`, `custom_functions` and `hooks`
what stands around operators, `shared_memory` who writes into what, `argument_names` what arguments are called.
"""
