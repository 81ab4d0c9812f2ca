"""What pytest must not import when it looks for doctests: modules whose optional package is not installed."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("triton") else ["triton_kernels.py"]
