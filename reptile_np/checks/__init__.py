"""Checks for other people's models: gradients, Hessian products, Taylor orders, meta-gradients."""
