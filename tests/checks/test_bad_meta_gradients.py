"""What ``meta_gradient_expansion`` is given, if it has the wrong form, is refused by name."""

import numpy as np
import pytest

from reptile_np.checks import meta_gradient_expansion
from tests.checks.examples import PHI, right, right_hvp
from tests.refusal import refusal


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (PHI[1:], "the meta-gradient has shape (2,); phi has (3,)"),
        (1.0, "the meta-gradient has shape ()"),
        (None, "the meta-gradient is None"),
        (np.nan * PHI, "the meta-gradient is not finite"),
    ],
)
def test_a_meta_gradient_of_the_wrong_form_is_refused(returned, message):
    tasks = [[0, 1]]
    assert message in refusal(
        meta_gradient_expansion, lambda *args: returned, right, right_hvp, PHI, tasks, 2
    )


@pytest.mark.parametrize(
    ("tasks", "k", "message"),
    [
        ([], 2, "tasks must be a non-empty list of tasks"),
        ([1, 2], 2, "tasks must be a non-empty list of tasks"),
        ([[0, 1]], 3, "k = 3"),
        ([[0, 1]], 0, "k is 0; give a whole number of at least 1"),
        ([[0, 1]], 1.5, "k is 1.5"),
        ([[0]], 1, "AvgGradInner needs two"),
    ],
)
def test_tasks_and_steps_that_do_not_fit_are_refused(tasks, k, message):
    assert message in refusal(meta_gradient_expansion, lambda *args: PHI, right, right_hvp, PHI, tasks, k)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tolerance": -1}, "tolerance is -1; give a number greater than 0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"alpha": 0}, "alpha is 0; give a number that is not 0"),
        ({"alpha": "1e-4"}, "alpha is '1e-4'"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": np.complex128(1j)}, "alpha is np.complex128(1j)"),
        ({"expect": []}, "method [] is unknown; expect one of Reptile, FOMAML, MAML"),
        ({"sampler": "distinct"}, "sampler is 'distinct'; give a function"),
        ({"meta_gradient": None}, "meta_gradient is None; give a function"),
        ({"hvp": None}, "hvp is None; give a function"),
    ],
)
def test_arguments_of_the_expansion_that_are_none_are_named(changed, says):
    given = {"meta_gradient": lambda phi, batches, alpha: phi, "loss_and_grad": right, "hvp": right_hvp}
    given |= {"phi": PHI, "tasks": [[None, None]], "k": 2}
    assert says in refusal(meta_gradient_expansion, **(given | changed))
