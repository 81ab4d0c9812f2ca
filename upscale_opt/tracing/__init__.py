"""From a network to a `Graph`: blocks of channels, the consumers that read them, and what must stay as it is.

`trace` is the way in and `graphs` what comes out. Around it: what a trace found (`census`, `skipped`, `prologues`,
`writes`, `movable_groups`) and what it holds for (`fixed_values`, `fingerprints`, `network_fits`).
"""
