"""Which channels are kept: masks of consumers, masks of producers, and masks that all consumers share.

- `importance_masks` and `constrained` choose masks.
- `input_masks` and `output_masks` check and complete given masks.
- `masked_graph` says which channels a network with masks keeps, stores and writes.
"""
