"""Verify, then time the native kernels, NumPy and other frameworks on the same workloads."""
