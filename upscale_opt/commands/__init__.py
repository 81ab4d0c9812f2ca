"""The command line.

- `cli` has the commands on orders (solve, compare, export, show) and registers all other commands.
- The others are in `latency` (profile, calibrate, check), `pruning` (prune), `learning` (train, evaluate) and
  `allocation` (allocate).
- `options` defines the options, and `values` checks their values. `data_options` has those on images, and loads them.
- `mask_choices` and `measuring` are groups of options. `spreading` puts groups into commands, and refuses options that
  do not go together.
- `sessions` runs the stages of one model, `instances` solves an instance file. `first_screen` shows what was gained,
  and `next_steps` what to do next. `proofs` prints and writes proofs.
- `help_pages` has the groups and the examples of the help. `heartbeats` breaks long silences.
"""
