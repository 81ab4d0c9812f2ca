"""Compares an export with the masked network, outputs and gradients, in float64 and with random statistics.

`verification` compares outputs; use it to verify an export. `gradients` compares backward passes.
"""
