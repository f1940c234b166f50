"""Other people's tools on the benchmark's workloads: optional, never a dependency of reptile_np.

Each module but `jax_jit`, which two of them share, has ``variants(threads)``, which
`reptile_np.bench.measurement` asks for contenders.
"""
