"""Exact methods for instances in which some rows share no channel, and so may lie apart."""
