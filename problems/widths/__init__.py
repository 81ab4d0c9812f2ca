"""Choosing a width per block for a budget of measured time: the problem, its files, generators and bound checker."""
