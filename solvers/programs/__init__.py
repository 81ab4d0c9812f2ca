"""The constraint programs and the mixed integer program, written down for reading."""
