"""Your own images: a folder → imported → meta-trained → used as a classifier of new classes.

The folder is made here: 60 classes of 12 small textures, of mixed size, in one folder for each class.  Put
your own folder in its place.  On the command line, with images of 84 x 84 and a larger network:

    reptile-np data folder IMAGES --to CACHE
    reptile-np train images-colour-5way --data CACHE --set tasks.shots=10 --set outer.steps=1000 --out RUN
    reptile-np classify RUN --support DIR IMAGE…

    python examples/own_images.py
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from reptile_np.experiments.learner import Learner
from reptile_np.meta import meta_gradients
from reptile_np.meta.optimizers import Adam, Sgd, linear_annealing
from reptile_np.meta.training import begin, meta_train
from reptile_np.nn import models, native
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks import few_shot, folder

CLASSES, IMAGES, WAYS, SHOTS, OUTER_STEPS = 60, 12, 5, 10, 300


def make_textures(place, rng):
    """Write class folders of coloured stripes: each class has a direction, a width and two colours."""
    for c in range(CLASSES):
        (place / f"texture{c:02}").mkdir()
        angle, width = rng.uniform(0, np.pi), rng.uniform(3, 9)
        colours = rng.uniform(0, 255, (2, 3))
        for i in range(IMAGES):
            rows, columns = rng.integers(28, 60, 2)
            y, x = np.mgrid[:rows, :columns]
            turned = angle + rng.normal(0, 0.1)
            stripes = np.sin((x * np.cos(turned) + y * np.sin(turned)) / width * 3 + rng.uniform(0, 6.3))
            part = (1 + stripes[..., np.newaxis]) / 2
            pixels = part * colours[0] + (1 - part) * colours[1] + rng.normal(0, 20, (rows, columns, 3))
            kind = "png" if i % 2 else "jpg"
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(place / f"texture{c:02}" / f"{i}.{kind}")


def train(classes, model, rng):
    """Return φ and Adam's state after meta-training by Reptile."""

    def episodes(i, j):
        task = few_shot.sample_task(np.random.default_rng([i, j]), classes, WAYS, SHOTS, queries=0)
        return few_shot.minibatches(np.random.default_rng([i, j, 1]), task.support, 10, 5)

    inner, rate = Adam(1e-3), linear_annealing(1.0, 0.0, OUTER_STEPS)
    steps = meta_train(
        model,
        begin(model.init(rng), inner, Sgd(1.0)),
        episodes,
        meta_gradient=meta_gradients.reptile,
        inner=inner,
        outer=lambda i: Sgd(rate(i)),
        outer_steps=OUTER_STEPS,
        meta_batch=2,
        keep="ends",
    )
    *_, last = steps
    return last.phi, inner, last.inner_state


def accuracy(learner, classes):
    """Return the accuracy over 60 tasks of unseen classes: one image of each of five, then a new one."""
    tasks = (few_shot.sample_task(np.random.default_rng([9, i]), classes, WAYS, 1) for i in range(60))
    return np.mean([learner.fit(*task.support).score(*task.query) for task in tasks])


def main():
    """Make the folder, import it, train, and classify."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        images, cache = Path(place, "images"), Path(place, "cache")
        images.mkdir()
        make_textures(images, rng)
        splits = folder.load(folder.import_folder(images, cache, size=28)).splits()
        print(f"{len(splits.train)} classes to train on, {len(splits.test)} to test on")
        ops = native.load() if native.available() else NUMPY
        model = models.conv_cnn((28, 28, 3), WAYS, filters=16).with_ops(ops)
        phi, inner, state = train(splits.train, model, rng)
        untrained = model.init(np.random.default_rng(0))
        for what, learner in (
            ("untrained", Learner(model, untrained, inner, inner.init(untrained), steps=20)),
            ("meta-trained", Learner(model, phi, inner, state, steps=20)),
        ):
            print(f"{what:>13}: {accuracy(learner, splits.test):.1%} of new images of unseen classes")

        names = [splits.test.name(c) for c in range(3)]  # three classes, an example each, any size
        first = np.stack([np.asarray(Image.open(images / n / "1.png").resize((40, 40))) for n in names])
        new = np.stack([np.asarray(Image.open(images / n / "3.png").resize((40, 40))) for n in names])
        learner.set_params(resize=True).fit(first, names)
        for name, answer, p in zip(names, learner.predict(new), learner.predict_proba(new), strict=True):
            print(f"a new image of {name}: {answer} ({p.max():.0%})")


if __name__ == "__main__":
    main()
