"""The differentiable network: ops, layout, layers, losses, models; `native` holds the C twins."""
