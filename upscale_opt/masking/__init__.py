"""Which channels are kept: masks of consumers, masks of producers, masks that all consumers share.

`input_masks` and `output_masks` check and complete what is given, `importance_masks` and `constrained` choose, and
`masked_graph` says what is left of a network with its masks.
"""
