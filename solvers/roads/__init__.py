"""The roads of `auto`. A road is a list of methods for one kind of objective, in order, with shares of the time."""
