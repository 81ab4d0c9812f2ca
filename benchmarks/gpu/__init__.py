"""All measurements on one GPU in under ten minutes; see `python -m benchmarks.gpu --help`."""
