"""Presets of a comparison that the paper does not have: four methods that differ in the method only.

Reptile, first-order MAML, exact MAML and joint training, each in Reptile's network for Omniglot, with the
paper's split into 1,200 characters of training and 423 of test, the same 50 images of each training task, the
same evaluation, and the same number of gradients.  The first three are the runs of `presets_same_k` at k = 5,
with a larger budget and 50 steps of fine-tuning at test; joint training takes the 50 images of a task in one
minibatch.

The unit of the budget is the gradient of the loss of one image (`Preset.gradients`).  For each training task
a method takes::

    reptile, fomaml   5 gradients of 10 images                                     50
    joint             1 gradient of all 50 images                                  50
    maml              5 gradients of 10 images, 4 Hessian products of 10 images    130

A Hessian product counts as two gradients.  An outer step is 4 tasks, so 7,800,000 gradients are 39,000 outer
steps, and 15,000 of exact MAML, which is trained on 5 tasks for every 13 tasks of another method.  Equal
numbers of gradients are not equal times, because kernels do not run all of them at one speed: the table of
``reptile-np reproduce methods`` shows the seconds of each method beside its accuracy.

Where each value comes from:

* network, ways, 10 shots, 5 inner steps of 10 images: the paper's Table 3, Omniglot 5-way;
* inner SGD at 0.0075 for the summed loss of 10 images.  That is 0.075 for the mean loss, as in Figure 3
  (Table 6 of version 1): 0.003 for the summed loss of 25.  Not in the paper for MAML and joint training;
* Adam outside, from 0.001 to 0, with beta1 = 0: not in the paper.  Finn's program has Adam at 0.001 with
  beta1 = 0.9.  Adam makes the length of a direction irrelevant, and the directions of these methods have
  different lengths;
* 4 tasks in a meta-batch: not in the paper (5 for Reptile);
* 50 steps of fine-tuning: the paper's Table 3.  Their minibatches have 10 images, as in training; for 1-shot
  they have 5, because there are only 5 images.  These sizes, and SGD as the optimiser at test, are not in the
  paper;
* the budget: not in the paper.  It is 0.31 of the budget of `omniglot-5way`.

No value was tuned for one of the methods.

Verified by ``tests/experiments/test_presets_methods.py``.
"""

from __future__ import annotations

from dataclasses import replace

from reptile_np.experiments.presets_same_k import same_k
from reptile_np.experiments.specs import Algorithm, EvaluationSpec, Preset

__all__ = ["GRADIENTS", "METHODS"]

GRADIENTS = 7_800_000
"""Gradients of one image in a run of each method; a multiple of an outer step of each."""

K = 5
ABOUT: dict[Algorithm, str] = {
    "reptile": "Reptile",
    "fomaml": "first-order MAML",
    "maml": "exact MAML",
    "joint": "joint training",
}
HOURS: dict[Algorithm, float] = {"reptile": 0.18, "fomaml": 0.18, "maml": 0.26, "joint": 0.2}


def _method(algorithm: Algorithm) -> Preset:
    """Return the run of one method."""
    preset = same_k("omniglot", algorithm, K)
    images = preset.inner.batch * K
    one_step = replace(
        preset,
        name=f"methods-{algorithm}",
        about=f"{ABOUT[algorithm]}, with 7.8 million gradients",
        source="ours: the same number of gradients; inner rate of Figure 3 (v1), evaluation of Table 3 (v3)",
        hours=HOURS[algorithm],
        inner=replace(preset.inner, batch=images, steps=1) if algorithm == "joint" else preset.inner,
        outer=replace(preset.outer, steps=1),
        evaluation=EvaluationSpec(shots=1, batch=10, steps=50, tasks=200, one_shot_batch=5),
    )
    return replace(one_step, outer=replace(one_step.outer, steps=GRADIENTS // one_step.gradients))


METHODS = tuple(map(_method, ABOUT))
