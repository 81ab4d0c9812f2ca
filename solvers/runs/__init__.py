"""The number of runs: tours through classes, their bounds, branch and cut, local search."""
