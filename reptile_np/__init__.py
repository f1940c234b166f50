"""Reptile, FOMAML and MAML in NumPy, with every derivative written by hand.

The paper: Alex Nichol, Joshua Achiam, John Schulman, *On First-Order Meta-Learning Algorithms*,
arXiv:1803.02999.

The public packages, in reading order:

``meta``          the paper's algorithms: optimisers, inner loop, meta-gradients, training, evaluation
``nn``            the differentiable network: ops, layers with four faces, models, native kernels
``tasks``         sources of tasks: sine waves, glyphs, Omniglot, Mini-ImageNet, folders
``theory``        section 4 of the paper, executable
``checks``        checks of gradients, Hessian products and meta-gradients, for your own model too
``experiments``   presets with their sources, run directories, `Learner`
``pretrained``    the released weights; `load` makes a classifier of your images from trained weights
``play``          a page in the browser to draw on
``bench``         kernels: verified, then timed
``cli``           the program ``reptile-np``

``SYMBOLS.md`` lists the paper's symbols and the names here.  Each package is imported when it is first
used, so that ``import reptile_np`` costs nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reptile_np.experiments.learner import Learner

__version__ = "0.1.0"
PACKAGES = ("bench", "checks", "cli", "experiments", "meta", "nn", "play", "pretrained", "tasks", "theory")
__all__ = [*PACKAGES, "load"]


def load(source: str | os.PathLike[str]) -> Learner:
    """Return a classifier that starts from a trained initialisation: call ``fit``, then ``predict``.

    The data set of the training is not needed.

    Parameters
    ----------
    source
        The directory of a run, or "pretrained:NAME" for weights that come with the package
        (``reptile_np.pretrained.names()``).

    Raises
    ------
    UsageError
        If there is no such run or name, the files are damaged, or the run did not train a classifier.

    Notes
    -----
    The classifier computes with the best kernels of this machine.  Verified by
    ``tests/pretrained/test_learners.py``.
    """
    from reptile_np.pretrained import load_learner

    return load_learner(source)


def __getattr__(name: str) -> object:
    """Import a public package at its first use."""
    if name not in PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
