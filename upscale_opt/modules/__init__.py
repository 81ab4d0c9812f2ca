"""The modules that an export is built with: selections of channels, and convolutions that read them in place."""
