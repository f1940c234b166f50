"""Verify, then time: our kernels, NumPy and other frameworks on the same workloads."""
