"""The differentiable network: ops, layout, layers, losses, models; `native` computes them in C."""
