"""The answers of the page's server are those of the package; what the page does not send is refused."""

import copy
import threading

import numpy as np
import pytest

import reptile_np
from reptile_np import pretrained
from reptile_np.errors import UsageError
from reptile_np.experiments.learner import Learner
from reptile_np.meta.inner_loop import adapt
from reptile_np.meta.optimizers import Adam, Sgd
from reptile_np.nn.models import omniglot_cnn, sine_mlp
from reptile_np.play.answers import LINE, Characters, handlers, moves, waves
from reptile_np.play.drawing import image
from reptile_np.theory.manifolds import Sphere, distance_gradient

MODEL = omniglot_cnn(5, filters=4)
CIRCLES = {"circles": [[-2, 0, 1], [2, 0, 1]], "start": [1, 3], "epsilon": 0.5, "moves": 100}


def learner(seed):
    phi = MODEL.init(np.random.default_rng(seed))
    return Learner(MODEL, phi, Adam(1e-2), Adam(1e-2).init(phi), steps=4, batch=3)


@pytest.fixture
def characters():
    return Characters({"trained": learner(0), "random": learner(1)})


def five_digits(values):
    """Numbers as the answers write them: with five digits after the point."""
    return np.round(np.asarray(values, np.float64), 5)


def drawing(seed):
    rng = np.random.default_rng(seed)
    return [[rng.random(2).round(3).tolist() for _ in range(4)] for _ in range(2)]


def request(seed=0, transductive=False):
    classes = [[drawing(seed + 1)], [drawing(seed + 2), drawing(seed + 3)], [drawing(seed + 4)]]
    return {
        "classes": classes,
        "queries": [drawing(seed + 5), drawing(seed + 6)],
        "transductive": transductive,
    }


@pytest.mark.parametrize("transductive", [False, True])
def test_the_probabilities_are_the_learner_s_at_every_step(characters, transductive):
    asked = request(transductive=transductive)
    got = characters(asked)["probabilities"]
    x = np.stack([image(d) for drawings in asked["classes"] for d in drawings])
    queries = np.stack([image(d) for d in asked["queries"]])
    for name, seed in (("trained", 0), ("random", 1)):
        fitted = learner(seed).fit(x, [0, 1, 1, 2])
        expected = fitted.predict_proba_by_step(queries, transductive=transductive)
        np.testing.assert_array_equal(got[name], five_digits(expected))
    assert np.shape(got["trained"]) == (5, 2, 3)


def test_the_random_start_has_random_parameters_and_the_state_of_an_adam_at_its_first_step():
    released = reptile_np.load("pretrained:omniglot-5way")
    phi = released.model.init(np.random.default_rng(0))
    state = released.optimizer.init(phi)
    random = Learner(**{**released.get_params(), "phi": phi, "state": state})
    expected = Characters({"trained": released, "random": random})
    assert handlers()["/characters"](request()) == expected(request())


def test_an_answer_does_not_depend_on_the_questions_before(characters):
    first = characters(request(0))
    assert characters(request(50)) != first
    assert characters(request(0)) == first


def test_only_what_changed_is_computed(characters, monkeypatch):
    fits, asked, fit, ask = [], [], Learner.fit, Learner.predict_proba_by_step
    monkeypatch.setattr(Learner, "fit", lambda self, *a: fits.append(self) or fit(self, *a))
    monkeypatch.setattr(
        Learner, "predict_proba_by_step", lambda self, x, **o: asked.append(len(x)) or ask(self, x, **o)
    )
    first = request()
    characters(first)
    characters(first)
    assert (len(fits), asked) == (2, [1] * 4)
    characters({**first, "queries": [first["queries"][0], drawing(99)]})
    assert (len(fits), asked) == (2, [1] * 6)


def test_questions_of_two_clients_at_once_get_their_own_answers(characters):
    asked = [request(seed, bool(seed % 2)) for seed in range(0, 80, 10)]
    expected = [Characters({"trained": learner(0), "random": learner(1)})(one) for one in asked]
    got = [None] * len(asked)

    def ask(i):
        got[i] = characters(asked[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def change(key, value):
    asked = copy.deepcopy(request())
    asked[key] = value
    return asked


POINT = [0.5, 0.5]


@pytest.mark.parametrize(
    "asked",
    [
        None, [], "x", 3, {}, {**request(), "more": 1},
        change("classes", [[drawing(1)]]),
        change("classes", [[drawing(1)]] * 6),
        change("classes", [[], [drawing(1)]]),
        change("classes", [[drawing(1)] * 6, [drawing(1)]]),
        change("classes", {"0": [drawing(1)]}),
        change("queries", []),
        change("queries", [drawing(1)] * 6),
        change("queries", [[]]),
        change("queries", [[[]]]),
        change("queries", [[[POINT]] * 201]),
        change("queries", [[[POINT] * 2001]]),
        change("queries", [[[POINT] * 1500, [POINT] * 1500]]),
        change("queries", [[[[0.5]]]]),
        change("queries", [[[[0.5, "0.5"]]]]),
        change("queries", [[[[0.5, None]]]]),
        change("queries", [[[[0.5, True]]]]),
        change("queries", [[[[0.5, float("nan")]]]]),
        change("queries", [[[[0.5, float("inf")]]]]),
        change("queries", [[[[0.5, 10**400]]]]),
        change("transductive", 1),
        change("transductive", None),
    ],
)  # fmt: skip
def test_what_the_page_does_not_send_is_refused_in_one_line(characters, asked):
    with pytest.raises(UsageError) as error:
        characters(asked)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_points_beside_the_canvas_are_moved_to_its_edge(characters):
    beside = change("queries", [[[[-3, 0.5], [2, 0.5]]]])
    on_edge = change("queries", [[[[0, 0.5], [1, 0.5]]]])
    assert characters(beside) == characters(on_edge)


def test_waves_are_fine_tuned_by_gradient_descent_on_all_points():
    trained = pretrained.load("sine-reptile")
    points = [[-2.0, 1.0], [0.5, -1.0], [3.0, 2.0]]
    got = waves(trained.model, {"reptile": trained.phi}, {"points": points})
    xy = np.array(points, np.float32)
    phis = adapt(trained.model, Sgd(0.02), trained.phi, [(xy[:, :1], xy[:, 1:])] * 32).phis
    expected = [trained.model.predict(phi, LINE.astype(np.float32))[:, 0] for phi in phis]
    np.testing.assert_array_equal(got["predictions"]["reptile"], five_digits(expected))
    np.testing.assert_array_equal(got["x"], five_digits(LINE[:, 0]))


@pytest.mark.parametrize(("point", "at_the_edge"), [([-7, 40], [-5, 10]), ([9, -40], [5, -10])])
def test_a_point_beside_the_interval_is_moved_to_its_edge(point, at_the_edge):
    trained = pretrained.load("sine-reptile")
    answers = [waves(trained.model, {"reptile": trained.phi}, {"points": [p]}) for p in (point, at_the_edge)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("points", [[], None, [[0, 0]] * 51, [[0]], [["0", 0]], [[0, float("nan")]], {}])
def test_points_that_are_none_are_refused(points):
    trained = pretrained.load("sine-reptile")
    with pytest.raises(UsageError):
        waves(trained.model, {"reptile": trained.phi}, {"points": points})


def test_the_path_ends_at_the_point_nearest_to_both_circles():
    got = moves(CIRCLES)
    path, limit = np.array(got["path"]), np.array(got["limit"])
    assert path.shape == (101, 2)
    np.testing.assert_array_equal(path[0], [1, 3])
    np.testing.assert_array_equal(limit, [0, 0])
    assert np.linalg.norm(path[-1] - limit) < 0.5 / 100  # the last move's: ε = 0.5 / 100, the circle at 1
    circles = [Sphere(np.array(c[:2], float), c[2]) for c in CIRCLES["circles"]]
    np.testing.assert_array_equal(sum(distance_gradient(c, limit) for c in circles), 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("circles", [[0, 0, 1]]), ("circles", [[0, 0, 0], [1, 1, 1]]), ("circles", [[0, 0, 1], [1, 1]]),
        ("circles", [[0, 0, 1], [1, 1, 1e300]]), ("start", [0]), ("start", "ab"), ("epsilon", 2),
        ("epsilon", float("nan")), ("moves", 0), ("moves", 10**9), ("moves", None),
    ],
)  # fmt: skip
def test_other_circles_and_moves_are_refused(key, value):
    with pytest.raises(UsageError):
        moves({**CIRCLES, key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epsilon", 2, "epsilon: must be a number from 0 to 1"),
        ("start", [0, 101], "start: must be 2 numbers from -100 to 100"),
        ("circles", [[0, 0, 0.0099], [1, 1, 1]], "circle: the radius must be at least 0.01"),
    ],
)
def test_a_refusal_says_what_the_numbers_must_be(key, value, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        moves({**CIRCLES, key: value})


def test_a_start_at_a_centre_is_refused():
    with pytest.raises(UsageError, match="is the centre of a circle"):
        moves({**CIRCLES, "start": [-2, 1e-9]})


@pytest.mark.parametrize("count", [1, 2])  # the limit alone is unknown, or the path too
def test_a_path_that_meets_a_centre_is_refused(count):
    """The first move ends on the centre of the second circle."""
    with pytest.raises(UsageError, match="a move ended on the centre of a circle; start elsewhere"):
        moves({"circles": [[0, 0, 1], [1, 0, 0.5]], "start": [2, 0], "epsilon": 1, "moves": count})


def test_the_same_drawings_in_other_classes_get_another_answer(characters):
    asked = request()
    first, (second, moved), last = asked["classes"]
    asked_again = {**asked, "classes": [[*first, second], [moved], last]}
    expected = Characters({"trained": learner(0), "random": learner(1)})(asked_again)
    characters(asked)
    assert characters(asked_again) == expected


def test_only_the_answers_to_the_newest_drawings_are_kept(characters, monkeypatch):
    asked, ask = [], Learner.predict_proba_by_step
    monkeypatch.setattr(
        Learner,
        "predict_proba_by_step",
        lambda self, x, **options: asked.append(len(x)) or ask(self, x, **options),
    )
    for seed in (5, 6, 5):
        characters({**request(), "queries": [drawing(seed)]})
    assert len(asked) == 6


def test_a_point_of_the_plane_is_learned_where_it_is_and_one_beside_it_at_the_edge():
    model = sine_mlp()
    start = {"reptile": model.init(np.random.default_rng(0))}

    def learned(y):
        return waves(model, start, {"points": [[1, y]]})["predictions"]

    assert learned(11) == learned(10)
    assert learned(-11) == learned(-10)
    assert len({str(learned(y)) for y in (-10, -7, 7, 10)}) == 4
