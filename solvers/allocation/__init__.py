"""One sparsity level per layer within a budget of time: three exact methods, and the search over error coefficients."""
