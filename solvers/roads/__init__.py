"""The roads of `auto`: one file for each kind of objective says which methods it asks, in which order, and for how long."""
