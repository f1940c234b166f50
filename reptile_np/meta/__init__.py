"""The algorithms of the paper: optimisers, inner loop, meta-gradients, training, evaluation."""
