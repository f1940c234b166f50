"""Recordings that nobody has seen: correct programs have a float64 shadow, wrong ones have none.

`recorded` makes a recording of new random data by NumPy or by a native table: two float32 programs that
add in different orders and take different sides at kinks.  The suite makes one recording of each kind, and
plants each error once, in a network of 16 filters, of which a recording without an error is made too; the
deep profile makes twenty of each kind by both, and plants each error in every kind that it concerns, in the
recorded program's 64 filters.
"""

import os
from dataclasses import replace

import pytest

from tests.golden.planted import PLANTED
from tests.golden.recordings import KINDS, new_data, recorded
from tests.golden.shadow import Shadow, shadowed
from tests.golden.stages import stages

DEEP = "deep" in (os.environ.get("REPTILE_NP_PROFILE"), os.environ.get("HYPOTHESIS_PROFILE"))
SEEDS = range(20) if DEEP else range(1)
SWIFT = "omniglot_foml_sgd_tail", "omniglot_reptile_adam", "miniimagenet_reptile_adam"


def concerned(words):
    """The kinds an error is planted in: those whose names have all the words."""
    kinds = [kind for kind in (KINDS if DEEP else SWIFT) if all(word in kind for word in words.split())]
    return kinds if DEEP else kinds[:1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_correct_program_has_a_shadow_on_data_that_nobody_has_seen(kind, seed, default_ops):
    data = new_data(kind, seed)
    program = replace(data.program, model=data.program.model.with_ops(default_ops))
    for name, shadow in shadowed(recorded(data, program))[0].items():
        print(f"{name}: {max(shadow.found.values()):.2g} times the rounding, {shadow.flips} kinks turned")
        assert shadow.holds, f"{name}: {shadow.found}"


@pytest.mark.parametrize(
    ("error", "kind"), [(e, k) for e, (words, _) in PLANTED.items() for k in concerned(words)]
)
def test_a_wrong_program_has_no_shadow(error, kind):
    data = new_data(kind, 100, filters=64 if DEEP else 16)
    refused = refusal(PLANTED[error][1](data, data.program))
    print(f"{error}: refused by {refused}")
    assert refused


@pytest.mark.parametrize("kind", KINDS if DEEP else SWIFT)
def test_the_program_in_which_errors_are_planted_has_a_shadow(kind):
    data = new_data(kind, 100, filters=64 if DEEP else 16)
    assert refusal(recorded(data, data.program)) is None


def refusal(recording):
    """The first stage without a shadow, and the distance that is left there; None if there is none."""
    walk = stages(recording)
    name, stage = next(walk)
    while True:
        shadow = Shadow(stage)
        if not shadow.holds:
            return name, max(shadow.found.items(), key=lambda item: item[1])
        try:
            name, stage = walk.send(shadow.states if stage.after is not None else None)
        except StopIteration:
            return None
