"""Carrying a plan out: a new module that stores the kept channels in the plan's order, and reads them as it says.

`exports` is what comes out: module, plan, and which part of every parameter the module holds.
"""
