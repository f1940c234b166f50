"""The whole program, against vectors recorded from the authors' released program (TensorFlow 1).

The statement (`tests.golden.shadow`): each outer step and each evaluation, started from the recorded state,
is shadowed by a float64 trajectory, every kink within rounding of a decision resolved one way or the other.
The recorded program and each table of kernels are held to it, all with the same units of rounding, which are
measured on the recording's own data.  Nothing is assumed about which side a program's kinks took: two correct
float32 programs take different sides, and are a thousand times the rounding apart two steps later.

The tables run through the public functions that the command line uses: `meta_train` for the outer steps,
`adapt`, `evaluate` and the two prediction modes for the evaluation.

`tests/golden/test_second_recordings.py` makes recordings that this file has not seen, and wrong programs.
"""

from dataclasses import replace

import numpy as np
import pytest

from reptile_np.meta.evaluation import evaluate
from reptile_np.meta.optimizers import Sgd
from reptile_np.meta.training import begin
from tests.conftest import tables
from tests.golden.recordings import ENDINGS, Recording, recorded
from tests.golden.shadow import WIDER, Shadow, guided, shadowed, shadowed_like
from tests.golden.stages import stages


@pytest.fixture(scope="module")
def recording(golden_file):
    return Recording.read(golden_file)


@pytest.fixture(scope="module")
def shadows(recording):
    return shadowed(recording)


def assert_shadowed(shadows, program):
    """Every stage's recording lies within rounding of a float64 trajectory."""
    for name, shadow in shadows.items():
        what, most = max(shadow.found.items(), key=lambda item: item[1])
        found = f"{program}, {name}: {most:.3g} times the rounding ({what}), {shadow.flips} kinks turned"
        print(found)
        assert shadow.holds, f"{found}; {WIDER} times are allowed"


def test_the_recorded_program_is_shadowed_by_a_float64_trajectory(shadows):
    assert_shadowed(shadows[0], "the released program")


def test_every_table_of_kernels_is_shadowed_from_the_recorded_states(recording, shadows):
    """One test for all tables: a recording's float64 trajectories are large, and are computed once."""
    for ops in tables():
        program = replace(recording.program, model=recording.program.model.with_ops(ops))
        own = recorded(recording, program, guided(shadows[0]))
        assert_shadowed(shadowed_like(own, shadows[0]), ops.name)


def test_adams_count_of_steps_runs_on_from_task_to_task(recording, shadows):
    if "adam_beta2_power" not in recording.arrays:
        assert shadows[1] == ()
        return
    # TensorFlow's β2ᵗ starts at β2, so it counts the next step; it is a float32 product of t + 1 factors
    t = shadows[1].t + 1
    assert t == 1 + sum(len(recording.batches(f"train{i}")) for i in range(recording.outer_steps))
    tolerance = t * np.finfo(np.float32).eps
    np.testing.assert_allclose(0.999**t, recording.arrays["adam_beta2_power"], rtol=tolerance)


@pytest.mark.parametrize("mode", ENDINGS)
def test_the_number_of_correct_answers_is_that_of_the_recorded_logits(recording, mode):
    """One query per class, in order; non-transductive reads the last row of each forward batch."""
    prefix = ENDINGS[mode]
    logits, sizes = recording.arrays[f"{prefix}/logits"], recording.arrays[f"{prefix}/predict_sizes"]
    rows = logits if mode == "transductive" else logits[np.cumsum(sizes) - 1]
    assert (rows.argmax(1) == np.arange(len(rows))).sum() == recording.arrays[f"{prefix}/num_correct"]


@pytest.mark.parametrize("mode", ENDINGS)
def test_an_evaluation_leaves_the_state_after_training_as_it_was(recording, default_ops, mode):
    program = recording.program
    phi = recording.phi(recording.outer_steps)
    state = begin(phi, program.inner, Sgd(1.0)).inner_state
    before = phi.copy(), [np.copy(part) for part in state]
    model, episode = program.model.with_ops(default_ops), recording.evaluation(mode)
    evaluate(model, program.inner, phi, state, lambda i: episode, 1)
    np.testing.assert_array_equal(phi, before[0])
    for part, copy in zip(state, before[1], strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_rate_of_sgd_that_is_0_1_percent_off_has_no_shadow(sgd_golden_file):
    """The recorded program did not use that rate, and no choice of sides makes up for it.

    Under Adam the search takes longer; ``test_second_recordings.py`` has this wrong program there.
    """
    recording = Recording.read(sgd_golden_file)
    program = recording.program
    rate = 1.001 * program.inner.learning_rate
    recording.program = replace(program, inner=Sgd(rate))
    _, stage = next(stages(recording))
    assert not Shadow(stage).holds
