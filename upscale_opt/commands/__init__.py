"""The command line.

`cli` has the commands on orders (solve, compare, export, show) and registers the others: `latency` (profile, calibrate,
check), `pruning` (prune), `learning` (train, evaluate) and `allocation` (allocate). They share `options`, what is
typed; `mask_choices` and `measuring`, groups of options; `sessions`, one run with its stages; and `proofs`.
"""
