"""MAML and first-order MAML in the setting of Finn's program: the first rows of the paper's tables.

Finn, Abbeel, Levine, *Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks*, arXiv:1703.03400,
and the program published with it (github.com/cbfinn/maml).  The inner loop is full-batch gradient descent on
the support set; the outer loss is that of a query set, transductive.

Where the values come from:

* inner rates and steps, meta-batches, 60,000 outer steps: appendix A.1.  For Mini-ImageNet 5-shot the
  program's usage text has a meta-batch of 4, the appendix 2; 2 is used;
* steps at test: appendix A.1 (Omniglot 5-way 3; 20-way 5, as in training; Mini-ImageNet 10).  The program
  prints the accuracy after each of 10 steps for all of them;
* queries of each class on Omniglot, K in training and at test: the program (``main.py`` draws 2 K images of a
  class and splits them in halves).  The appendix does not say;
* queries on Mini-ImageNet: 15 in training, appendix A.1 and the program; K at test, the program, which draws
  K + 15 images of a class if it trains and 2 K if it tests;
* Adam outside with beta1 = 0.9, beta2 = 0.999 and epsilon = 1e-8: the program, which takes TensorFlow's
  defaults (the authors of Reptile set beta1 = 0);
* the bound of 10 on each entry of the outer gradient, for Mini-ImageNet alone: the program (``maml.py``).

Differs from that program: the loss is the mean over the minibatch.  The program divides the sum by K
(``utils.py``), whatever the number of examples.  That is N times the mean for a support set of N K examples,
so the inner rates are N times as large here.  For 15 queries of each class it is 15 N / K times the mean, so
the bound is 10 K / (15 N).  Adam outside does not depend on such a factor.

Differs from that program: every training task is new.  The program draws the images of 200,000 tasks and
uses them again and again: 9.6 times on Omniglot 5-way and 4.8 times on Omniglot 20-way, turned anew each
time, and 1.2 times on Mini-ImageNet 1-shot.

Differs from that program: each seed has its own division of the 1,623 characters.  The program has one, which
depends on the order in which the operating system lists folders.

Differs from that program with TensorFlow before 1.2, which had no second derivative of max-pooling: the
program then takes its own (``special_grads.py``), which does not pass the derivative on to the layer behind.
Here exact MAML on Mini-ImageNet is exact.  Which of the two the published numbers are from is not known.

Verified by ``tests/experiments/test_presets_finn.py`` and ``tests/experiments/test_wiring.py``.
"""

from __future__ import annotations

from typing import Literal

from reptile_np.experiments.specs import (
    Cell,
    EvaluationSpec,
    InnerSpec,
    OuterSpec,
    Preset,
    Published,
    TaskSpec,
)

__all__ = ["FINN"]

Rule = Literal["maml", "fomaml"]
HOURS: dict[tuple[Rule, str], tuple[float, float]] = {
    ("maml", "omniglot, 5-way"): (1.1, 4.9),
    ("maml", "omniglot, 20-way"): (7.4, 40),
    ("maml", "mini-imagenet"): (7.6, 11),
    ("fomaml", "omniglot, 5-way"): (0.5, 2.6),
    ("fomaml", "omniglot, 20-way"): (2.7, 15),
    ("fomaml", "mini-imagenet"): (4.6, 4.3),
}
"""Hours for one and for five shots: the median outer step of some seconds of training, times 60,000."""
ABOUT = {"maml": "exact MAML", "fomaml": "first-order MAML"}
MINI_QUERIES = 15
"""Queries of each class in training on Mini-ImageNet."""
SOURCE = "Tables 1 and 2, first rows: Finn's program and the appendix of her paper"


def _omniglot(rule: Rule, ways: int, shots: int, mean: float, plus_minus: float) -> Preset:
    five = ways == 5
    steps = 1 if five else 5
    return Preset(
        name=f"{rule}-omniglot-{ways}way-{shots}shot",
        about=f"{ABOUT[rule]} on Omniglot, {shots}-shot {ways}-way, in the setting of Finn's program",
        source=SOURCE,
        hours=HOURS[rule, f"omniglot, {ways}-way"][shots == 5],
        algorithm=rule,
        tasks=TaskSpec(
            "omniglot",
            ways=ways,
            shots=shots,
            queries=shots,
            turn=True,
            invert=True,
            train_classes=1100,
        ),
        inner=InnerSpec("sgd", 2.0, batch=ways * shots, steps=steps, fixed="*/beta"),
        outer=OuterSpec(
            rate=1e-3,
            final_rate=1e-3,
            steps=60_000,
            meta_batch=32 if five else 16,
            optimizer="adam",
            beta1=0.9,
        ),
        evaluation=EvaluationSpec(
            shots=shots, batch=ways * shots, steps=3 if five else 5, tasks=600, queries=shots
        ),
        network="finn-omniglot",
        published={Cell(shots, "transductive"): Published(mean, plus_minus)},
    )


def _mini_imagenet(rule: Rule, shots: int, mean: float, plus_minus: float) -> Preset:
    return Preset(
        name=f"{rule}-mini-imagenet-{shots}shot",
        about=f"{ABOUT[rule]} on Mini-ImageNet, {shots}-shot 5-way, in the setting of Finn's program",
        source=SOURCE,
        hours=HOURS[rule, "mini-imagenet"][shots == 5],
        algorithm=rule,
        tasks=TaskSpec("mini-imagenet", ways=5, shots=shots, side=84, channels=3, queries=MINI_QUERIES),
        inner=InnerSpec("sgd", 0.05, batch=5 * shots, steps=5, fixed="*/beta"),
        outer=OuterSpec(
            rate=1e-3,
            final_rate=1e-3,
            steps=60_000,
            meta_batch=4 if shots == 1 else 2,
            optimizer="adam",
            beta1=0.9,
            clip=10 * shots / (5 * MINI_QUERIES),
        ),
        evaluation=EvaluationSpec(shots=shots, batch=5 * shots, steps=10, tasks=600, queries=shots),
        filters=32,
        network="finn-mini-imagenet",
        published={Cell(shots, "transductive"): Published(mean, plus_minus)},
    )


FINN = (
    _omniglot("maml", 5, 1, 98.7, 0.4),
    _omniglot("maml", 5, 5, 99.9, 0.1),
    _omniglot("maml", 20, 1, 95.8, 0.3),
    _omniglot("maml", 20, 5, 98.9, 0.2),
    _omniglot("fomaml", 5, 1, 98.3, 0.5),
    _omniglot("fomaml", 5, 5, 99.2, 0.2),
    _omniglot("fomaml", 20, 1, 89.4, 0.5),
    _omniglot("fomaml", 20, 5, 97.9, 0.1),
    _mini_imagenet("maml", 1, 48.70, 1.84),
    _mini_imagenet("maml", 5, 63.11, 0.92),
    _mini_imagenet("fomaml", 1, 48.07, 1.75),
    _mini_imagenet("fomaml", 5, 63.15, 0.91),
)
