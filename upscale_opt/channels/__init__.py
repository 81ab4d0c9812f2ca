"""Channel identities: which channels of different tensors are the same. Operator rules work on this state.

`flow` is one pass over an fx graph. `table` has all channels by number. `findings` has the results of rules.
`lengths` and `derivations` follow channel counts and parameters through the graph.
"""
