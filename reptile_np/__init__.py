"""Reptile, FOMAML and MAML in NumPy, with every derivative written by hand.

The rooms, in reading order:

``nn``            the differentiable network: ops, layers with four faces, models
``meta``          the paper's algorithms: optimisers, inner loop, meta-gradients, training, evaluation
``tasks``         where tasks come from: sine waves, glyphs, Omniglot
``theory``        section 4 of the paper, executable
``experiments``   presets with their sources, run directories

Nothing is imported here, so that ``import reptile_np`` costs nothing.
"""

__version__ = "0.1.0"
