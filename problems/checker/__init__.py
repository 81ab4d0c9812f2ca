"""Checks of claims about orders: solutions, bounds and proofs, by code that knows no solver."""
