"""What one GPU says in under ten minutes; `python -m benchmarks.gpu --help` says how."""
