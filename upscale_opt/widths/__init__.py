"""Widths of blocks: what a network costs at every width, what it loses, and the choice for a target."""
