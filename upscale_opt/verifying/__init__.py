"""Does an export compute, and learn, what the masked network does? In float64, with random statistics.

`verification` compares outputs and is the way in, `gradients` compares backward passes.
"""
