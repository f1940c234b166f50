"""Section 4 of the paper (arXiv:1803.02999, version 1's numbers), executable.

``rational``      exact arithmetic: interpolation and linear systems over the rationals
``polynomials``   losses on which the training code runs exactly
``expansions``    equations (7)-(17), any number of inner steps, and one order beyond the paper
``manifolds``     section 4.2: projections, alternating moves, their limits
``networks``      two small networks in float64 with a few tasks each
``claims``        the statements of the paper's analysis, each measured: ``reptile-np verify``

The checks for your own model are in `reptile_np.checks`; ``checks`` here is their former name.
"""
