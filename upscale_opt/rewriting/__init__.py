"""Carries out a plan: makes a new module that stores the kept channels in the plan's order and reads them as planned.

`exports` defines the result: the module, the plan, and the part of every parameter that the module holds.
"""
