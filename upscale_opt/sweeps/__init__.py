"""Sweeps: many networks, amounts, masks, objectives and solvers, measured once each, on one machine or several.

- `documents` reads a sweep file. `declarations` checks it and makes `cells.Axes` of it. `cells` has the cells.
- `addresses` computes what a cell is known by: a digest of everything that decides its figures.
- `stores` are where `rows` are: `sqlite_store`, or `lines_store`. `owners` says whose claims are still alive.
- `computing` computes a cell in a worker, with `subjects`, `figures` and `costs`. `locks` keeps measurements alone.
- `running` gives the cells that a store lacks to one of the `engines`, and tells `progress`.
- `benchmark_files` reads rows of other CSV files. `pages` makes the HTML page.
"""
