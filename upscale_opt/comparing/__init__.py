"""Several orders of one network side by side: solved, exported, verified, measured, and shown.

`comparison` is the whole road in one call, `order_checks` compares predictions with measurements, `floors` is what no
order can beat; `reports`, `pictures` and `scatter` show them.
"""
