"""Checks of the arguments of public functions. Every argument is checked before any work starts.

`entrance` decorates the public functions. `checks` has the checks. `mask_arrays` converts masks to Boolean arrays.
No module here imports torch.
"""
