"""``reptile-np play``: a page in the browser that shows how an initialisation learns new tasks.

Three parts: characters drawn by hand and classified while an initialisation is fine-tuned to them; sine
waves learned from clicked points; alternating moves towards two sets of solutions (Figure 2).  Every
answer is computed by the package's functions; the page draws it, and computes the errors on the points.
"""
