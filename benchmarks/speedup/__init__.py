"""From a target speedup to a network: joint widths, windows and what others do, on measured times and held-out images.

`cells` lists what is compared. `networks`, `subjects` and `photos` are the networks and images. `methods` makes the
network of a cell, `judging` measures it, `records` keeps the rows. `verdicts`, `tables` and `pictures` make the page.
`digits_net` and `photos` are also the files that the documentation gives to ``--model`` and ``--data``.
"""
