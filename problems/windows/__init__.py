"""Contiguous windows of a stream's channels, one per reader and writer: the problem, decisions, words and files."""
