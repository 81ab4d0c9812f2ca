"""The command line.

`cli` has the commands on orders (solve, compare, export, show) and registers the others: `latency` (profile, calibrate,
check), `pruning` (prune), `learning` (train, evaluate) and `allocation` (allocate). They share `options`, what is
typed; `values`, which of it makes sense; `spreading`, groups of options and what goes together; `mask_choices` and
`measuring`, such groups; `sessions`, one run with its stages; and `proofs`.
"""
