"""Modes of masking: inputs of consumers, with or without agreement between them, outputs of producers, or both.

The library and the command line use the same names.
"""

INPUT, CONSTRAINED, OUTPUT, BOTH = "input", "constrained", "output", "both"
MODES = (INPUT, CONSTRAINED, OUTPUT, BOTH)
