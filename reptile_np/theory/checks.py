"""The public checks under their former name; use `reptile_np.checks`."""

from reptile_np.checks import *  # noqa: F403
