"""The roads of `auto`: a file for each kind of objective says which methods are asked, in which order, how long."""
