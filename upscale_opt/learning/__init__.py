"""Learning: one training loop, and the methods that choose masks while they train.

`loop` is the loop, with its `recipes` and `checkpoints`, and `evaluation` says how good a model
is. `columns` keeps what masks drop at zero, `targets` says how much is dropped. Every method returns a
`learned.Learned`: a model whose dropped columns are exactly zero, its masks, and a log. `finetuning` is the one with
fixed masks, `bip` learns masks and weights together, `gap` grows and prunes parts of the network in turn.
"""
