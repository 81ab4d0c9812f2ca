"""The modules of which exports consist: selections of channels, and convolutions that read slices without a copy."""
