"""The roads of `auto`: which methods it asks for each kind of objective, in which order, and for how long."""
