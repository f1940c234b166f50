"""Section 4 of the paper, executable, and the tools to put other people's models to the same tests.

``rational``      the exact arithmetic: interpolation and linear systems over the rationals
``polynomials``   losses on which the training code runs exactly
``expansions``    equations (7)-(17), every number of inner steps, and one order beyond the paper
``manifolds``     section 4.2: projections, alternating moves, moving averages
``checks``        for your own model: gradient, Hessian product, adjoint, Taylor order, expansion
``strategies``    the same inputs for Hypothesis
``claims``        every statement of the paper that can be true or false, measured
"""
