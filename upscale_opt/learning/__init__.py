"""Training methods that choose masks, and their common training loop.

Every method returns a `learned.Learned`: a model whose dropped columns are exactly zero, its masks, and a log.

- `finetuning` trains with fixed masks. `bip` learns masks and weights together. `gap` grows and prunes parts of the
  network in turn.
- `loop` is the training loop, with its `recipes` and `checkpoints`. `evaluation` measures accuracy.
- `datasets` loads images into an `image_sets.Dataset`: `folders`, or `own_data` with its `own_images`.
- `columns` holds dropped columns at zero. `targets` says how many channels to drop.
"""
