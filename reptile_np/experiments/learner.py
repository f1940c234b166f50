"""A meta-trained initialisation as a classifier: `fit` on a handful of labelled images, then `predict`.

It follows scikit-learn's conventions (constructor arguments are parameters, `fit` returns the object,
what is learned ends in an underscore) and does not need scikit-learn.

Verified by ``tests/experiments/test_learner.py`` (`fit` and `predict_proba` do what an evaluation does) and
``test_learner_refusals.py``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from reptile_np.errors import UsageError, whole
from reptile_np.experiments.image_arrays import as_inputs
from reptile_np.experiments.labels import check_same_kind, checked_labels, checked_weights
from reptile_np.meta.evaluation import MODES
from reptile_np.meta.inner_loop import Array, adapt
from reptile_np.nn.models import Model
from reptile_np.tasks.few_shot import minibatches

__all__ = ["Learner"]

PARAMETERS = (
    "model",
    "phi",
    "optimizer",
    "state",
    "steps",
    "batch",
    "one_shot_batch",
    "seed",
    "transductive",
    "resize",
    "recolour",
    "invert",
)


class Learner:
    """A classifier that is fine-tuned, from a meta-trained φ, to the classes of a few images.

    Parameters
    ----------
    model
        A network with a softmax over `ways` outputs.
    phi
        The initialisation (n,), float32.
    optimizer, state
        The inner optimiser, and its state after training, with which `fit` begins: Adam's moments are not
        reset.
    steps, batch
        How many inner steps `fit` takes, and the examples in each of their minibatches.
    one_shot_batch
        The examples in a minibatch if there is one image of each class; None: `batch`.
    seed
        Draws the minibatches: the same images and seed give the same classifier.  An integer, or a
        `numpy.random.Generator`, which `fit` then draws from.
    transductive
        Whether `predict` classifies its images together, in one batch.  Batch norm uses the statistics of
        the batch, so the answer for one image then depends on the others.  False: each image is
        classified with the support set, and its answer does not depend on the other images.
    resize, recolour
        Whether images of another size are resized, and whether grey images are converted for a network of
        colour images and the reverse (`reptile_np.experiments.image_arrays.as_inputs`).  False: they are
        refused.
    invert
        Whether the model was trained on 1 - x in place of images x in [0, 1].

    Attributes
    ----------
    classes_
        The distinct labels (c,), sorted, after `fit`; c is at most the number of the model's outputs.
    phis_
        The parameters (n,) after 0, 1, …, `steps` inner steps of `fit`: φ_1 … φ_{k+1}.
    phi_
        The last of them, the fine-tuned parameters.
    support_
        The support set's images as the model's inputs, for non-transductive answers.

    Notes
    -----
    Images are (b, h, w) or (b, h, w, channels): uint8 (0-255, divided by 255), bool, or floats in [0, 1].
    If there are fewer classes than outputs, the outputs without a class have probability 0.
    """

    def __init__(
        self,
        model: Model,
        phi: Array,
        optimizer: Any,
        state: Any,
        *,
        steps: int = 50,
        batch: int = 5,
        one_shot_batch: int | None = None,
        seed: int | np.random.Generator = 0,
        transductive: bool = False,
        resize: bool = False,
        recolour: bool = False,
        invert: bool = False,
    ) -> None:
        self.model, self.phi, self.optimizer, self.state = model, phi, optimizer, state
        self.steps, self.batch, self.one_shot_batch = steps, batch, one_shot_batch
        self.seed, self.transductive = seed, transductive
        self.resize, self.recolour, self.invert = resize, recolour, invert

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments by name, as scikit-learn's `clone` asks for them."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def set_params(self, **values: Any) -> Learner:
        """Change some of the constructor's arguments; return self.

        Raises
        ------
        UsageError
            For a name that is no parameter.
        """
        for name, value in values.items():
            if name not in PARAMETERS:
                raise UsageError(f"{name!r} is no parameter; the parameters are {', '.join(PARAMETERS)}")
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags of a classifier of arrays of images; only scikit-learn calls this."""
        utils = import_module("sklearn.utils")
        return utils.Tags(
            estimator_type="classifier",
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(),
            input_tags=utils.InputTags(two_d_array=False, three_d_array=True),
        )

    def fit(self, x: Any, y: Any) -> Learner:
        """Fine-tune to labelled images; return self.

        Parameters
        ----------
        x
            Images (b, h, w) or (b, h, w, channels); see the notes of the class.
        y
            Labels (b,) of any kind that can be sorted: integers, strings.

        Raises
        ------
        UsageError
            For images or labels that do not fit the model, or more classes than it has outputs.  What was
            fitted before is then as it was.
        """
        images = self._images(x)
        labels = checked_labels("fit", y, len(images))
        try:
            classes, numbers = np.unique(labels, return_inverse=True)
        except TypeError:
            raise UsageError("fit: labels of kinds that cannot be sorted together; use one kind") from None
        ways = self.model.output_shape[0]
        if not 2 <= len(classes) <= ways:
            count = f"{len(classes)} class{'es' * (len(classes) != 1)}"
            raise UsageError(f"fit: {count}; this model distinguishes 2 to {ways} classes")
        steps, batch = whole("fit: steps", self.steps, 1), whole("fit: batch", self.batch, 1)
        if self.one_shot_batch is not None:
            one_shot_batch = whole("fit: one_shot_batch", self.one_shot_batch, 1)
            batch = one_shot_batch if len(images) == len(classes) else batch
        try:
            rng = np.random.default_rng(self.seed)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"fit: seed={self.seed!r} ({error}); give a whole number of at least 0"
            ) from None
        batches = minibatches(rng, (images, numbers.astype(np.int32)), batch, steps)
        with np.errstate(over="ignore", invalid="ignore"):  # reported as UsageError
            phis = adapt(self.model, self.optimizer, self.phi, batches, self.state).phis
        if not np.isfinite(phis[-1]).all():
            if not np.isfinite(self.phi).all():
                raise UsageError("fit: phi, the initialisation, has NaN or infinity; load it again")
            raise UsageError("fit: fine-tuning diverged; lower the optimiser's learning rate")
        self.phis_: tuple[Array, ...] = phis
        self.phi_: Array = phis[-1]
        self.classes_, self.support_ = classes, images
        return self

    def predict_proba(self, x: Any, *, transductive: bool | None = None) -> Array:
        """Return the probabilities (b, c) of the classes, in the order of `classes_`.

        Parameters
        ----------
        x
            Images as in `fit`.
        transductive
            Default: the constructor's.

        Raises
        ------
        UsageError
            Before `fit`, or for images that do not fit the model.
        """
        self._need_fit()
        return self._probabilities(self.phi_, self._images(x), transductive)

    def predict_proba_by_step(self, x: Any, *, transductive: bool | None = None) -> Array:
        """Return the probabilities (steps + 1, b, c) after 0, 1, … inner steps of `fit`.

        The last ones are those of `predict_proba`; arguments and errors are as there.
        """
        self._need_fit()
        images = self._images(x)
        return np.stack([self._probabilities(phi, images, transductive) for phi in self.phis_])

    def predict(self, x: Any, *, transductive: bool | None = None) -> Array:
        """Return the label (b,) of the most probable class of each image; arguments as `predict_proba`."""
        most = self.predict_proba(x, transductive=transductive).argmax(axis=1)
        return self.classes_[most]

    def score(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the fraction of the images x whose predicted label is that in y (b,); errors as `fit`'s.

        An image counts as often as `sample_weight` (b,) says.
        """
        predicted = self.predict(x)
        labels = checked_labels("score", y, len(predicted))
        check_same_kind(labels, self.classes_)
        right = predicted == labels
        weights = np.ones(len(right)) if sample_weight is None else checked_weights(sample_weight, len(right))
        return float(np.average(right, weights=weights))

    def _need_fit(self) -> None:
        if not hasattr(self, "phi_"):
            raise UsageError("predict: call fit(x, y) first")

    def _probabilities(self, phi: Array, images: Array, transductive: bool | None) -> Array:
        """Return the softmax (b, c) over the outputs that have a class."""
        together = _yes_or_no("transductive", self.transductive if transductive is None else transductive)
        logits = MODES["transductive" if together else "non_transductive"]
        z = logits(self.model, phi, self.support_, images)[:, : len(self.classes_)]
        odds = np.exp(z - z.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _images(self, x: Any) -> Array:
        """Return images as float32 (b, *input_shape)."""
        rows, columns, channels = self.model.input_shape
        resize, recolour = _yes_or_no("resize", self.resize), _yes_or_no("recolour", self.recolour)
        invert = _yes_or_no("invert", self.invert)
        images = as_inputs(x, (rows, columns, channels), resize=resize, recolour=recolour)
        return 1 - images if invert else images


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{name} is {value!r}; give True or False")
    return bool(value)
