"""What was trained, ready for use: the weights released with the package, and run directories.

>>> import numpy as np
>>> from reptile_np import pretrained
>>> trained = pretrained.load("glyphs-5way")
>>> trained.model.predict(trained.phi, np.zeros((1, 28, 28, 1), np.float32)).shape
(1, 5)

`reptile_np.load` makes a classifier of either.  ``python -m reptile_np.pretrained RUN`` writes the weights of
a finished run to an .npz file for release.

Verified by ``tests/pretrained``.
"""

from __future__ import annotations

from reptile_np.pretrained.learners import learner_of, load_learner, saved_run
from reptile_np.pretrained.weights import Pretrained, load, names

__all__ = ["Pretrained", "learner_of", "load", "load_learner", "names", "saved_run"]
