"""Checks for your own model: gradients, Hessian products, meta-gradients.

    from reptile_np.checks import check_grad, check_hvp, meta_gradient_expansion

``check_grad``               the gradient against slopes of the loss, piece by piece
``check_hvp``                a Hessian product against slopes of the gradient; whether it is linear
``check_adjoint``            the transpose of a linear map
``check_taylor_order``       both derivatives by the order of the Taylor remainder
``meta_gradient_expansion``  whether it is MAML, FOMAML or Reptile: the two terms of section 4.1, measured
``MetaExpansion``            what `meta_gradient_expansion` returns
``Report``                   what the other checks return: worst direction, relative error, suspected cause
``CheckFailure``             raised by a check that does not hold; an `AssertionError` with a `Report`

Arguments that a check cannot use raise `reptile_np.errors.UsageError`, with one line that says what is
wrong.  ``reptile_np.checks.strategies`` (Hypothesis strategies) is imported by itself: it needs
Hypothesis (``pip install hypothesis``).
"""

from reptile_np.checks.adjoints import check_adjoint
from reptile_np.checks.gradients import check_grad, check_hvp
from reptile_np.checks.meta_gradients import MetaExpansion, meta_gradient_expansion
from reptile_np.checks.report import CheckFailure, Report
from reptile_np.checks.taylor import check_taylor_order

__all__ = [  # noqa: RUF022 - in reading order
    "check_grad",
    "check_hvp",
    "check_adjoint",
    "check_taylor_order",
    "meta_gradient_expansion",
    "MetaExpansion",
    "Report",
    "CheckFailure",
]
