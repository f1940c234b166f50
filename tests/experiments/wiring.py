"""Names of presets, and pixels, for the tests of the assembled runs."""

from reptile_np.experiments.presets import PRESETS

OMNIGLOT = [name for name, preset in PRESETS.items() if preset.tasks.source == "omniglot"]
SINE = [name for name, preset in PRESETS.items() if preset.tasks.source == "sine"]


def pixels(x):
    return {image.tobytes() for image in x}
