"""From a masked network to its ordering problems, and from their solutions to a plan.

`extraction` writes one problem per segment, `cost_model` and `workloads` price its reads, `solutions` solves, `plans`
is the plan and its file.
"""
