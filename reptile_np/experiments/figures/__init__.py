"""The paper's figures and our own, each drawn from a table of numbers that is kept beside the picture.

A figure is two functions: one computes a `Table` of numbers, the other draws it.  `style.save` writes
the table as CSV and the picture as PNG and SVG, on white for print and on a dark page.

``figure_1``      sine waves learned from few points: Reptile, MAML, joint training
``figure_2``      alternating moves towards two curves of solutions
``figure_3``      learning curves of ten combinations of inner gradients
``inner_curve``   accuracy against inner steps at test
``same_k``        Reptile, FOMAML, MAML and joint training at the same number of inner steps

``sources``       where the numbers come from

matplotlib is needed to draw (``pip install matplotlib``), not to compute.
"""
