"""Accuracy beside latency, on digits: importances, BiP and GaP on three small networks.

`cells` says what is compared, `learning` prunes and trains, `latencies` measures, `equal_latency` compares modes where
they are equally fast, `tables` and `pictures` show it.
"""
