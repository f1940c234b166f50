"""Alternating projections go where their closed form says."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.checks.strategies import generators, rational_vectors
from reptile_np.errors import UsageError
from reptile_np.theory.manifolds import (
    Affine,
    Sphere,
    alternate,
    annealed_path,
    cycle_limit,
    distance_gradient,
    half_squared_distance,
    nearest_by_descent,
    nearest_point,
)
from reptile_np.theory.rational import rationals

AXES = [Affine(rationals([[1, 0]]), rationals([0])), Affine(rationals([[0, 1]]), rationals([0]))]
whole_points = st.lists(st.integers(-9, 9), min_size=3, max_size=3).map(lambda p: np.array(p, float))
triangles = st.builds(
    lambda a, b, c: [*AXES, Affine(a[None], rationals([c]))],
    rational_vectors(2).filter(np.any),
    st.none(),
    st.integers(-3, 3),
)


@given(triangles, st.fractions(Fraction(1, 5), 1), rational_vectors(2))
def test_alternating_moves_converge_to_the_limit_in_closed_form(lines, epsilon, start):
    limit = cycle_limit(lines, epsilon)
    assert (alternate(lines, limit, epsilon, sweeps=1) == limit).all()
    # moving towards both axes alone shrinks any distance by 1 - ε: the sweep is a contraction
    before, after = start - limit, alternate(lines, start, epsilon, sweeps=1) - limit
    assert after @ after <= (1 - epsilon) ** 2 * (before @ before)


class Axis:
    """The points of which one coordinate is 0."""

    def __init__(self, coordinate):
        self.coordinate = coordinate

    def project(self, phi):
        point = phi.copy()
        point[self.coordinate] = 0
        return point


def test_an_annealed_path_takes_the_manifolds_in_turn_and_its_epsilon_falls_linearly_to_0():
    path = annealed_path([Axis(0), Axis(1)], np.array([4.0, 8.0]), 4, 0.5)
    assert np.array(path, float).tolist() == [[4, 8], [2, 8], [2, 5], [1.5, 5], [1.5, 4.375]]


@given(triangles)
def test_at_the_nearest_point_the_mean_gradient_vanishes(lines):
    nearest = nearest_point(lines)
    assert (sum(distance_gradient(line, nearest) for line in lines) == 0).all()


@given(triangles, rational_vectors(2))
def test_no_point_is_nearer_than_the_nearest(lines, other):
    def total(phi):
        return sum(distance_gradient(line, phi) @ distance_gradient(line, phi) for line in lines)

    assert total(nearest_point(lines)) <= total(other)


def test_parallel_lines_have_no_single_nearest_point():
    with pytest.raises(ArithmeticError, match="singular"):
        nearest_point([AXES[0], AXES[0]])


@pytest.mark.parametrize(
    "call",
    [
        nearest_point,
        lambda none: cycle_limit(none, Fraction(1, 2)),
        lambda none: annealed_path(none, np.zeros(2), 3, 0.5),
        lambda none: nearest_by_descent(none, np.zeros(2), 3),
    ],
)
def test_without_a_manifold_there_is_nothing_to_move_towards(call):
    with pytest.raises(UsageError, match=r"^no manifolds; give at least one$"):
        call([])


@pytest.mark.parametrize("radius", [-1.0, np.nan])
def test_a_sphere_without_points_is_refused(radius):
    with pytest.raises(UsageError, match=rf"^Sphere: radius is {radius}; give at least 0$"):
        Sphere(np.zeros(2), radius)


@given(whole_points, st.integers(0, 9), whole_points.filter(np.any), generators())
def test_the_projection_on_a_sphere_is_its_nearest_point(centre, radius, way, rng):
    sphere, phi = Sphere(centre, radius), centre + way
    projection = sphere.project(phi)
    assert abs(np.linalg.norm(projection - centre) - radius) < 1e-13
    directions = rng.standard_normal((1000, 3))
    others = centre + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    nearest = np.linalg.norm(others - phi, axis=1).min()
    assert np.linalg.norm(projection - phi) <= nearest + 1e-13
    closed_form = (np.linalg.norm(way) - radius) ** 2 / 2
    assert abs(half_squared_distance(sphere, phi) - closed_form) < 1e-12


def test_a_projection_stays_where_it_is_and_is_linear_in_its_parts():
    plane = Affine(rationals([[1, 2, 2], [0, 1, -1]]), rationals([3, 0]))
    phi = rationals([4, -1, 2])
    p = plane.project(phi)
    assert (plane.project(p) == p).all()
    normal_part, offset = plane.linear()
    assert (phi - p == normal_part @ phi - offset).all()
