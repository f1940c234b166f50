"""Recordings in the golden format: read from a file, or made by a program in the released one's place.

A recording holds data and what one program computed from it: each example's loss before its minibatch's
update, the parameters after every outer step, Adam's second moment, and two evaluations.
"""

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from reptile_np.meta.evaluation import MODES, Episode, evaluate
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.meta_gradients import fomaml, reptile
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.meta.training import Step, meta_train
from reptile_np.nn.models import mini_imagenet_cnn, omniglot_cnn
from reptile_np.tasks.glyphs import draw

META_BATCH, OUTER_STEP, WAYS = 2, 0.5, 5
ENDINGS = {"transductive": "eval_trans", "non_transductive": "eval_nontrans"}
TENSORS = ("conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1", "conv2d_2")
TENSORS += ("batch_normalization_2", "conv2d_3", "batch_normalization_3", "dense")


@dataclass(frozen=True)
class Program:
    """What turns data into a recording: a model and the pieces of the algorithm."""

    model: Any
    inner: Any
    direction: Any
    outer_rate: float = OUTER_STEP


class Recording:
    """The arrays of one recording, and what they say."""

    def __init__(self, name, arrays):
        self.name, self.arrays = name, arrays

    @classmethod
    def read(cls, file):
        with np.load(file, allow_pickle=False) as archive:
            return cls(file.stem, dict(archive))

    @cached_property
    def program(self):
        """The program that the recording's name and shapes describe, by NumPy."""
        kernels = [self.arrays[f"init/{name}"] for name in self.arrays["names"] if "kernel" in name]
        network = mini_imagenet_cnn if kernels[0].shape[2] == 3 else omniglot_cnn
        return Program(
            network(ways=kernels[-1].shape[1], filters=kernels[0].shape[3]),
            Sgd(3e-3) if "sgd" in self.name else Adam(1e-3, beta1=0.0),
            fomaml if "foml" in self.name else reptile,
        )

    @property
    def outer_steps(self):
        return sum(re.fullmatch(r"train\d+/x", key) is not None for key in self.arrays)

    def vector(self, prefix):
        """The parameters (or moments) under `prefix` as one φ: creation order is our order."""
        return np.concatenate([self.arrays[f"{prefix}/{name}"].ravel() for name in self.arrays["names"]])

    def phi(self, i):
        """φ before outer step i."""
        return self.vector(f"train{i - 1}/after" if i else "init")

    def images(self, key):
        x = self.arrays[key].reshape(-1, *self.program.model.input_shape).astype(np.float32)
        return x / 255 if x.shape[-1] == 3 else x

    def batches(self, prefix):
        """The minibatches under `prefix` in the order they were fed."""
        x, y = self.images(f"{prefix}/x"), self.arrays[f"{prefix}/y"]
        cuts = np.cumsum(self.arrays[f"{prefix}/batch_sizes"])[:-1]
        return list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))

    def losses(self, prefix):
        """Each example's loss, a vector per minibatch."""
        cuts = np.cumsum(self.arrays[f"{prefix}/batch_sizes"])[:-1]
        return np.split(self.arrays[f"{prefix}/per_example_loss"], cuts)

    def episodes(self, i, j):
        """The minibatches of task j of outer step i: the tasks of a meta-batch follow each other."""
        batches = self.batches(f"train{i}")
        k = len(batches) // META_BATCH
        return batches[j * k : (j + 1) * k]

    def predicted(self, prefix):
        """The forward batches of an evaluation's prediction."""
        return np.split(
            self.images(f"{prefix}/predict_x"), np.cumsum(self.arrays[f"{prefix}/predict_sizes"])[:-1]
        )

    def evaluation(self, mode):
        """The evaluation task, as the command line has it."""
        prefix = ENDINGS[mode]
        ends = np.cumsum(self.arrays[f"{prefix}/predict_sizes"])
        x, batches = self.images(f"{prefix}/predict_x"), self.batches(prefix)
        if mode == "transductive":
            support, queries = np.concatenate([x for x, _ in batches]), x
        else:  # each forward batch: the support set, then one query
            support, queries = x[: ends[0] - 1], x[ends - 1]
        labels = np.arange(len(queries))  # one query per class, in order
        return Episode((support, labels), (queries, labels), batches)


def recorded(data, program, starts=None):
    """What `program` computes from the data of the recording `data`, through the public functions.

    An uninterrupted run, or every stage from the (φ, inner state) that `starts` has for it.
    """
    arrays = {key: value for key, value in data.arrays.items() if re.search(r"names|init/|(x|y|sizes)$", key)}
    model, inner, dtype = program.model, program.inner, np.float32

    def put(prefix, vector):
        named = zip(data.arrays["names"], model.layout.views(vector).values(), strict=True)
        arrays.update({f"{prefix}/{name}": piece.astype(dtype) for name, piece in named})

    def along(prefix, phi, state, batches):
        t = adapt(model, inner, phi, batches, state)
        visited = zip(t.phis, batches, strict=False)
        return t, [model.loss.per_example(model.predict(point, x), y) for point, (x, y) in visited]

    phi = data.vector("init")
    step = Step(0, phi, inner.init(phi), ())
    for i in range(data.outer_steps):
        if starts:
            phi, state = starts[f"outer step {i + 1}"]
            step = replace(step, phi=phi, inner_state=state)
        state, losses = step.inner_state, []
        for j in range(META_BATCH):
            t, each = along(f"train{i}", step.phi, state, data.episodes(i, j))
            state, losses = t.state, losses + each
        (step,) = meta_train(
            model,
            step,
            data.episodes,
            meta_gradient=program.direction,
            inner=inner,
            outer=lambda i: Sgd(program.outer_rate),
            keep="ends" if program.direction in (reptile, fomaml) else "all",
            outer_steps=i + 1,
            meta_batch=META_BATCH,
        )
        arrays[f"train{i}/per_example_loss"] = np.concatenate(losses).astype(dtype)
        put(f"train{i}/after", step.phi)
    if isinstance(inner, Adam):
        put("adam_v", step.inner_state.v)
        arrays["adam_beta2_power"] = np.float32(inner.beta2 ** (step.inner_state.t + 1))
    for mode, prefix in ENDINGS.items():
        if starts:
            phi, state = starts[prefix]
            step = replace(step, phi=phi, inner_state=state)
        episode = data.evaluation(mode)
        t, losses = along(prefix, step.phi, step.inner_state, episode.batches)
        logits = [model.predict(t.phis[-1], x) for x in data.predicted(prefix)]
        arrays[f"{prefix}/per_example_loss"] = np.concatenate(losses).astype(dtype)
        arrays[f"{prefix}/logits"] = np.concatenate(logits).astype(dtype)
        fractions = evaluate(model, inner, step.phi, step.inner_state, lambda i, e=episode: e, 1)
        arrays[f"{prefix}/num_correct"] = np.int64(round(fractions[mode][0] * len(episode.query[1])))
        judged = MODES[mode](model, t.phis[-1], episode.support[0], episode.query[0])
        rows = arrays[f"{prefix}/logits"][np.cumsum(data.arrays[f"{prefix}/predict_sizes"]) - 1]
        np.testing.assert_array_equal(judged, arrays[f"{prefix}/logits"] if len(logits) == 1 else rows)
    return Recording(data.name, arrays)


KINDS = {  # minibatch sizes of a task in training, and in evaluation; outer steps
    "miniimagenet_reptile_adam": ([4, 4], [3, 3], 1),
    "omniglot_foml_adam": ([10, 10, 10], [5, 5, 5, 5], 2),
    "omniglot_foml_sgd_tail": ([10, 10, 5], [5, 5, 5, 5], 2),
    "omniglot_reptile_adam": ([10, 10, 10], [5, 5, 5, 5], 2),
    "omniglot_reptile_sgd": ([10, 10, 10], [5, 5, 5, 5], 2),
}


def new_data(kind, seed, filters=64):
    """Random data of one of the five `KINDS`, with a random start; nothing is computed yet.

    `filters` is the width of Omniglot's network; Mini-ImageNet's has 8.
    """
    rng = np.random.default_rng([seed, *kind.encode()])
    sizes, fine_tuning, outer_steps = KINDS[kind]
    mini = kind.startswith("mini")
    model = mini_imagenet_cnn(WAYS, filters=8) if mini else omniglot_cnn(WAYS, filters)
    phi, arrays = model.init(rng), {}
    for name, piece in model.layout.views(phi).items():
        if "kernel" not in name:
            piece += 0.1 * rng.normal(size=piece.shape).astype(np.float32)
    endings = [("kernel", "bias") if "norm" not in tensor else ("gamma", "beta") for tensor in TENSORS]
    names = [f"{tensor}/{end}" for tensor, pair in zip(TENSORS, endings, strict=True) for end in pair]
    arrays["names"] = np.array(names)
    for name, piece in zip(names, model.layout.views(phi).values(), strict=True):
        arrays[f"init/{name}"] = piece

    def images(count):
        if mini:  # colours of 12 x 12 patches, and noise
            patches = np.kron(rng.integers(0, 200, (count, 7, 7, 3)), np.ones((1, 12, 12, 1), int))
            return (patches + rng.integers(0, 56, patches.shape)).astype(np.uint8)
        characters = draw(count, 1, rng)
        return np.concatenate([characters.images(c, [0])[..., 0] for c in range(count)]).astype(np.uint8)

    def put(prefix, sizes):
        arrays[f"{prefix}/x"], arrays[f"{prefix}/batch_sizes"] = images(sum(sizes)), np.array(sizes, np.int32)
        arrays[f"{prefix}/y"] = rng.integers(0, WAYS, sum(sizes)).astype(np.int32)

    for i in range(outer_steps):
        put(f"train{i}", sizes * META_BATCH)
    for prefix in ENDINGS.values():
        put(prefix, fine_tuning)
        queries, support = images(WAYS), images(15 if mini else 20)
        batches = [queries] if prefix == "eval_trans" else [np.concatenate([support, [q]]) for q in queries]
        arrays[f"{prefix}/predict_x"] = np.concatenate(batches)
        arrays[f"{prefix}/predict_sizes"] = np.array([len(batch) for batch in batches], np.int32)
    return Recording(kind, arrays)


def with_model(program, **changes):
    """The program with fields of its model replaced."""
    return replace(program, model=replace(program.model, **changes))
