"""From a masked network to its ordering problems, and from their solutions to a plan.

- `extraction` makes one problem per segment.
- `cost_model` and `workloads` give the costs of its reads.
- `solutions` solves the problems.
- `plans` has the plan, and `plan_files` its file format.
"""
