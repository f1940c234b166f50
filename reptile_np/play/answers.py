"""The requests of the page and the answers to them, both as plain JSON values.

Every answer is computed by the package's own `Learner`, `adapt`, `annealed_path` and `nearest_by_descent`.
A request of another form than the page's raises `UsageError`; a point outside of its drawing is moved to the
edge.  Verified by ``tests/play/test_answers.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from reptile_np import pretrained
from reptile_np.errors import UsageError
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.learner import Learner
from reptile_np.meta.inner_loop import Array, adapt
from reptile_np.meta.optimizers import Sgd
from reptile_np.nn.models import Model
from reptile_np.play import drawing
from reptile_np.tasks.sine import INTERVAL
from reptile_np.theory.manifolds import Sphere, annealed_path, nearest_by_descent

__all__ = ["Answer", "Characters", "Handler", "handlers", "moves", "waves"]

MOST_CLASSES, MOST_EXAMPLES, MOST_QUERIES = 5, 5, 5
MOST_STROKES, MOST_POINTS = 200, 2000
"""Of one drawing: strokes, and points of all of them."""
WAVE_STEPS, WAVE_RATE, MOST_WAVE_POINTS = 32, 0.02, 50
LINE = np.linspace(*INTERVAL, 101)[:, np.newaxis]
MOST_MOVES = 200
DESCENT = 1000  # steps to the limit

CHARACTERS = "pretrained:omniglot-5way"

Answer = dict[str, Any]
Handler = Callable[[Any], Answer]


class Characters:
    """Answers about drawn characters.

    The results for the newest examples and drawings are kept, so that after a stroke only what changed is
    computed.  The initialisations are computed in parallel.

    Parameters
    ----------
    learners
        Name of an initialisation ↦ its learner.
    """

    def __init__(self, learners: Mapping[str, Learner]) -> None:
        self._learners = learners
        self._fitted: dict[str, tuple[bytes, _Fitted]] = {}
        self._pool = ThreadPoolExecutor(len(learners))

    def __call__(self, request: Any) -> Answer:
        """Return the probabilities of the classes for new drawings after every inner step.

        Parameters
        ----------
        request
            ``{"classes": [[drawing, …], …], "queries": [drawing, …], "transductive": bool}``; a drawing is a
            list of strokes, a stroke a list of points [x, y] in 0 … 1.

        Returns
        -------
        dict
            ``{"probabilities": {name: [step][query][class]}}``.
        """
        fields = _fields(request, ("classes", "queries", "transductive"))
        classes = _list(fields["classes"], "classes", 2, MOST_CLASSES)
        examples = [_list(drawings, "drawings of a class", 1, MOST_EXAMPLES) for drawings in classes]
        x = np.stack([_drawing(one) for drawings in examples for one in drawings])
        y = np.repeat(np.arange(len(examples)), [len(drawings) for drawings in examples])
        queries = np.stack([_drawing(one) for one in _list(fields["queries"], "queries", 1, MOST_QUERIES)])
        transductive = fields["transductive"]
        if not isinstance(transductive, bool):
            raise UsageError("transductive: must be true or false")

        def answer(name: str) -> Any:
            return _rounded(self._fitted_to(name, x, y).answer(queries, transductive))

        answers = self._pool.map(answer, self._learners)
        return {"probabilities": dict(zip(self._learners, answers, strict=True))}

    def _fitted_to(self, name: str, x: Array, y: Array) -> _Fitted:
        """Return the initialisation, fine-tuned to these examples."""
        key = x.tobytes() + y.tobytes()
        known, fitted = self._fitted.get(name, (b"", None))
        if fitted is None or known != key:
            fitted = _Fitted(Learner(**self._learners[name].get_params()).fit(x, y))
            self._fitted[name] = key, fitted
        return fitted


class _Fitted:
    """A fine-tuned learner that keeps its answers to single drawings."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner
        self._answers: dict[bytes, Array] = {}

    def answer(self, queries: Array, transductive: bool) -> Array:
        """Return the probabilities (steps + 1, q, c); the learner's own, of one call or several.

        Non-transductive answers do not depend on the other drawings: only new drawings are computed.
        """
        if transductive:
            return self._learner.predict_proba_by_step(queries, transductive=True)
        known = self._answers
        answers = {
            query.tobytes(): known[query.tobytes()]
            if query.tobytes() in known
            else self._learner.predict_proba_by_step(query[np.newaxis], transductive=False)
            for query in queries
        }
        self._answers = answers
        return np.concatenate([answers[query.tobytes()] for query in queries], axis=1)


def waves(model: Model, initialisations: Mapping[str, Array], request: Any) -> Answer:
    """Return what each initialisation predicts on a line of points after every inner step.

    `request` is ``{"points": [[x, y], …]}`` with x in [-5, 5]; the answer ``{"x": […], "predictions":
    {name: [step][point]}}``.  A step is one of gradient descent on all points.

    Raises
    ------
    UsageError
        If `request` has another form. A point outside the plane that is drawn is moved to its border.
    """
    points = _list(_fields(request, ("points",))["points"], "points", 1, MOST_WAVE_POINTS)
    xy = np.array([_point(point, *INTERVAL, -10, 10) for point in points], np.float32)
    batch = xy[:, :1], xy[:, 1:]
    predictions = {}
    for name, phi in initialisations.items():
        phis = adapt(model, Sgd(WAVE_RATE), phi, [batch] * WAVE_STEPS).phis
        predictions[name] = _rounded(
            np.stack([model.predict(p, LINE.astype(np.float32))[:, 0] for p in phis])
        )
    return {"x": _rounded(LINE[:, 0]), "predictions": predictions}


def moves(request: Any) -> Answer:
    """Return the iterates of equation (23) towards two circles in turn, and the point nearest to both.

    `request` is ``{"circles": [[x, y, radius], [x, y, radius]], "start": [x, y], "epsilon": e, "moves":
    n}``; ε is annealed linearly to 0.  The answer is ``{"path": [[x, y], …], "limit": [x, y]}``.

    Raises
    ------
    UsageError
        If `request` has another form, a number is outside its limits, or the start is the centre of a
        circle.
    """
    fields = _fields(request, ("circles", "start", "epsilon", "moves"))
    circles = []
    for circle in _list(fields["circles"], "circles", 2, 2):
        x, y, radius = _numbers(circle, "circle", 3, -100, 100)
        if radius < 0.01:
            raise UsageError("circle: the radius must be at least 0.01")
        circles.append(Sphere(np.array([x, y]), radius))
    (epsilon,) = _numbers([fields["epsilon"]], "epsilon", 1, 0, 1)
    (count,) = _numbers([fields["moves"]], "moves", 1, 1, MOST_MOVES)
    start = np.array(_numbers(fields["start"], "start", 2, -100, 100))
    if any(np.linalg.norm(start - circle.centre) < 1e-6 for circle in circles):
        raise UsageError("start: is the centre of a circle, from where every point of it is equally near")
    with np.errstate(divide="ignore", invalid="ignore"):  # at a centre there is no nearest point
        path = np.array(annealed_path(circles, start, int(count), epsilon))
        limit = nearest_by_descent(circles, path[-1], DESCENT)
    if not (np.isfinite(path).all() and np.isfinite(limit).all()):
        raise UsageError("start: a move ended on the centre of a circle; start elsewhere")
    return {"path": _rounded(path), "limit": _rounded(limit)}


def handlers() -> dict[str, Handler]:
    """Return path ↦ function from request to answer, with the released weights loaded.

    Raises
    ------
    UsageError
        If the package's weights are damaged.
    """
    ops = choose_ops(threads=1)  # the two initialisations share the cores
    trained = pretrained.learner_of(pretrained.saved_run(CHARACTERS), ops)
    phi = trained.model.init(np.random.default_rng(0))
    random = Learner(**{**trained.get_params(), "phi": phi, "state": trained.optimizer.init(phi)})
    sine = {name: pretrained.load(f"sine-{name}") for name in ("reptile", "maml", "joint")}
    model = sine["reptile"].model
    return {
        "/characters": Characters({"trained": trained, "random": random}),
        "/waves": lambda request: waves(model, {name: s.phi for name, s in sine.items()}, request),
        "/moves": moves,
    }


def _fields(request: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the request if it is an object with exactly these keys."""
    if not isinstance(request, dict) or set(request) != set(names):
        raise UsageError(f"the request must be an object with the keys {', '.join(names)}")
    return request


def _list(value: Any, what: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise UsageError(f"{what}: must be a list of {least} to {most}")
    return value


def _numbers(value: Any, what: str, count: int, low: float, high: float) -> list[float]:
    """Return `count` numbers between `low` and `high`; NaN is refused."""
    numbers = _list(value, what, count, count)
    if not all(type(n) in (int, float) and low <= n <= high for n in numbers):
        how_many = "a number" if count == 1 else f"{count} numbers"
        raise UsageError(f"{what}: must be {how_many} from {low:g} to {high:g}")
    return [float(n) for n in numbers]


def _point(value: Any, x_low: float, x_high: float, y_low: float, y_high: float) -> tuple[float, float]:
    x, y = _numbers(value, "point", 2, -1e9, 1e9)
    return min(max(x, x_low), x_high), min(max(y, y_low), y_high)


def _drawing(value: Any) -> Array:
    """Return the image (28, 28, 1) of a drawing."""
    strokes = [_list(s, "stroke", 1, MOST_POINTS) for s in _list(value, "drawing", 1, MOST_STROKES)]
    if sum(map(len, strokes)) > MOST_POINTS:
        raise UsageError(f"drawing: more than {MOST_POINTS} points")
    return drawing.image([[_point(p, 0, 1, 0, 1) for p in stroke] for stroke in strokes])


def _rounded(values: Array) -> Any:
    """Return an array as nested lists of numbers with five digits after the point."""
    return np.round(values.astype(np.float64), 5).tolist()
