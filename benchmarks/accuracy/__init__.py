"""Accuracy and latency on digits: importances, BiP and GaP on three small networks.

`cells` lists what is compared. `learning` prunes and trains. `latencies` measures. `equal_latency` compares modes at
equal latency. `tables` and `pictures` show the results.
"""
