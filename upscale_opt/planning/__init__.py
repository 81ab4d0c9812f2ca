"""From a masked network to its ordering problems, and from their solutions to a plan.

- `extraction` makes one problem per segment.
- `cost_model` and `workloads` give the costs of its reads.
- `solutions` solves the problems.
- `plans` has the plan, `reading` how one access is read, and `plan_files` the file format.
- `padding` stores dropped channels where wider tensors are faster.
"""
