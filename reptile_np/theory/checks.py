"""The public checks under their former name; they are in `reptile_np.checks.gradients`."""

from reptile_np.checks.gradients import *  # noqa: F403
