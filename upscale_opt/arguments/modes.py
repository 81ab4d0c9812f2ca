"""Modes: who is masked. The words that the library and the command line use for it."""

INPUT, CONSTRAINED, OUTPUT, BOTH = "input", "constrained", "output", "both"
MODES = (INPUT, CONSTRAINED, OUTPUT, BOTH)
