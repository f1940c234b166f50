"""Images of 28 x 28 as strokes that the page draws again, pixel by pixel."""

import numpy as np

from reptile_np.tasks.omniglot_files import SCANNED_SIDE, SIDE

CENTRES = ((np.floor((np.arange(SIDE) + 0.5) * SCANNED_SIDE / SIDE) + 0.5) / SCANNED_SIDE).tolist()
"""Of the canvas pixels that become pixels of the image: 3 or 4 apart, which is more than the pen's radius."""


def of_image(pixels):
    """Each run of ink in a row as one stroke, from the first to the last pixel's centre."""
    strokes = []
    for row, values in enumerate(np.asarray(pixels).reshape(SIDE, SIDE) == 0):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], values.astype(int), [0]])))
        for first, after in ends.reshape(-1, 2):
            strokes.append([[CENTRES[first], CENTRES[row]], [CENTRES[after - 1], CENTRES[row]]])
    return strokes
