"""Compares several orders of one network: solved, exported, verified, measured, and shown side by side.

- `pruning` makes masked models: `prune` and `prepare`. `masked_model` is the result, with everything that can be done
  with it.
- `comparison` does the whole comparison of solvers in one call.
- `order_checks` compares predictions with measurements.
- `floors` makes the network that no order can beat. `fastest` says which export is the answer.
- `reports`, `tables`, `pictures` and `scatter` show the results. `comparison_pages` and `check_pages` make pages of
  them (`upscale_opt.pages`); `compared` collects what a page shows. `predictions` has times where none were measured.
"""
