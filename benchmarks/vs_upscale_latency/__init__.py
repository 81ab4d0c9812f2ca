"""Latency of the same masked networks in apple-upscale's own export and in ours, as TorchScript files, interleaved.

`making` writes one file per variant and cell, every variant in a separate process. `measuring` loads the files of a
cell in one new process. `rows` computes the rows, `tables` shows them.
"""
