"""Latency of the same masked networks in apple-upscale's own export and in ours, as TorchScript files, interleaved.

`making` writes one file per variant and cell, every variant in a process of its own; `measuring` loads the files of
a cell in one fresh process; `rows` counts, `tables` shows.
"""
