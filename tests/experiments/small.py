"""Presets cut down to runs of a second, and experiments made of them."""

from reptile_np.experiments import presets
from reptile_np.experiments.experiment import make_experiment
from reptile_np.nn.ops import NUMPY

SMALL = {
    "sine-reptile": ["outer.steps=40", "evaluation.tasks=3"],
    "sine-maml": ["outer.steps=40", "evaluation.tasks=3"],
    "sine-fomaml": ["outer.steps=40", "evaluation.tasks=3", "outer.optimizer=momentum"],
    "sine-joint": ["outer.steps=40", "evaluation.tasks=3", "outer.beta1=0.9"],
    "glyphs-5way": [
        "outer.steps=4",
        "evaluation.tasks=3",
        "evaluation.steps=4",
        "filters=3",
        "tasks.classes=50",
        "outer.meta_batch=2",
    ],
}


def small(name, *settings):
    return presets.with_settings(presets.get(name), [*SMALL.get(name, []), *settings])


def experiment(name, *settings, seed=0, data=None):
    return make_experiment(small(name, *settings), seed, NUMPY, data)
