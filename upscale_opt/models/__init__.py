"""User networks: load them by name, unwrap them, run them, and restore them afterwards.

`loading` builds networks from a `references.ModelReference`, and `ready_models` makes an input for one. `python_files`
calls functions in files of users.
`network_checks` refuses networks that this package does not support. `preservation` and `snapshots` restore a network
bit for bit. `outputs` compares the outputs of two networks, and `digests` says whether two have the same weights.
"""
