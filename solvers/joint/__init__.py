"""Choosing kept sets and an order together: `choose_jointly`, its methods, and bounds."""
