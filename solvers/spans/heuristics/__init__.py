"""Orders that are good but not proven: beam search, local search and starts by seriation."""
