"""Latency of exports: unpruned, baseline, greedy, exact, and the floor."""
