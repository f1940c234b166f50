"""Reptile, FOMAML and MAML in NumPy, with every derivative written by hand.

The paper: Alex Nichol, Joshua Achiam, John Schulman, *On First-Order Meta-Learning Algorithms*,
arXiv:1803.02999.

The public packages, in reading order:

``meta``          the paper's algorithms: optimisers, inner loop, meta-gradients, training, evaluation
``nn``            the differentiable network: ops, layers with four faces, models, native kernels
``tasks``         sources of tasks: sine waves, glyphs, image classes, Omniglot
``theory``        section 4 of the paper, executable
``checks``        checks of gradients, Hessian products and meta-gradients, for your own model too
``experiments``   presets with their sources, run directories
``bench``         kernels: verified, then timed

Each is imported when it is first used, so that ``import reptile_np`` costs nothing.
"""

__version__ = "0.1.0"
__all__ = ["bench", "checks", "experiments", "meta", "nn", "tasks", "theory"]


def __getattr__(name: str) -> object:
    """Import a public package at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
