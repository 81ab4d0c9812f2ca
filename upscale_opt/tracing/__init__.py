"""Traces a network to a `Graph`: blocks of channels, the consumers that read them, and the pinned channels.

`trace` is the entry point, and `graphs` has its result. `census`, `skipped`, `prologues`, `writes` and
`movable_groups` analyse a trace. `fixed_values`, `fingerprints` and `network_fits` check for which networks, values and
inputs a trace is valid.
"""
