"""What stated coefficients amount to on a family of tasks."""

import numpy as np


def combination(family, coefficients):
    """The vectors (orders, n) of coefficients given by order of α, as `stated` returns them."""
    return np.stack([np.array(c, dtype=object) @ family.terms(i) for i, c in enumerate(coefficients)])
