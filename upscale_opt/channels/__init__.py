"""Which channels of which tensors are the same thing: the state that operator rules work on.

`flow` is one pass over an fx graph, `table` the channels by number, `findings` what rules find out.
"""
