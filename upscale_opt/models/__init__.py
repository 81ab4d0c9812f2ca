"""Networks as people have them: found by name, unwrapped, run, and put back as they were.

`loading` builds them from a `references.ModelReference`; `network_checks` says what is no network for this package;
`preservation` and `snapshots` keep a network bit for bit; `outputs` compares what two networks compute.
"""
