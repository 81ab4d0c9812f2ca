"""Exact methods for spans: paths over pairs of chains, and over sets of placed rows."""
