"""The joint problem: which channels every access keeps, and their order, chosen together; decisions, files, bounds."""
