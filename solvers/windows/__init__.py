"""Choosing the windows of a stream: `choose_windows`, its methods, and bounds."""
