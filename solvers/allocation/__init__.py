"""One sparsity level per layer within a budget of time: three exact methods behind one gate."""
