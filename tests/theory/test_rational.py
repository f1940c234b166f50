"""Exact arithmetic is exact, and says so where it cannot be."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reptile_np.checks.strategies import rational_vectors
from reptile_np.errors import UsageError
from reptile_np.theory.rational import (
    coordinates,
    exact_gradient,
    over_one_denominator,
    polynomial_coefficients,
    quotients,
    rationals,
    solve,
)


@pytest.mark.parametrize("value", [0.5, np.float64(1), 1j, "1", None])
def test_a_value_that_is_not_rational_by_type_is_refused(value):
    with pytest.raises(TypeError, match="integers and Fractions"):
        rationals([1, value])


@given(rational_vectors(4))
def test_over_one_denominator_fractions_are_integers(values):
    integers, d = over_one_denominator(values)
    assert {type(n) for n in integers} == {int}
    assert quotients(integers, d).tolist() == values.tolist()


@given(rational_vectors(4))
def test_quotients_of_whole_numbers_are_fractions_and_are_not_rounded(values):
    integers, _ = over_one_denominator(values)
    exact = quotients(integers.reshape(2, 2), 3)
    assert {type(x) for x in exact.flat} == {Fraction}
    assert (3 * exact == integers.reshape(2, 2)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, object])
def test_quotients_of_floats_are_floats(dtype):
    np.testing.assert_array_equal(quotients(np.array([1.5, -4.0], dtype=dtype), 2), [0.75, -2.0])


@pytest.mark.parametrize("values", [np.array([0.5, 2.0]), np.array([1j, np.nan])])
def test_floats_and_complex_numbers_are_their_own_numerators(values):
    numerators, d = over_one_denominator(values)
    assert numerators is values
    assert d == 1


@given(st.lists(st.fractions(-9, 9, max_denominator=9), min_size=1, max_size=7), st.integers(0, 3))
def test_interpolation_returns_the_coefficients_of_a_polynomial(coefficients, spare):
    def f(x):
        return rationals([sum(c * x**i for i, c in enumerate(coefficients)), 1])

    read = polynomial_coefficients(f, len(coefficients) - 1 + spare, len(coefficients))
    assert read[:, 0].tolist() == coefficients
    assert read[:, 1].tolist() == [1] + [0] * (len(coefficients) - 1)


NO_POLYNOMIALS = {
    "x^(degree + 1)": lambda x, degree: x ** (degree + 1),
    "x^(degree + 2)": lambda x, degree: x ** (degree + 2),
    "x^(degree + 3)": lambda x, degree: x ** (degree + 3),
    "x^(degree + 2) + x^(degree + 4)": lambda x, degree: x ** (degree + 2) + x ** (degree + 4),
    "|x|": lambda x, degree: abs(x),
    "x / |x|": lambda x, degree: x / abs(x),
    "1 / x": lambda x, degree: 1 / x,
    "1 / x²": lambda x, degree: 1 / x**2,
}


@pytest.mark.parametrize("f", NO_POLYNOMIALS.values(), ids=NO_POLYNOMIALS)
@given(st.integers(0, 46))
@example(0)
@example(1)
@example(2)
@example(4)
def test_what_is_no_polynomial_of_the_degree_is_noticed(f, degree):
    """Even and odd functions at even and odd degrees: nodes symmetric about 0 do not show them all."""
    with pytest.raises(ArithmeticError, match=f"degree {degree}$"):
        polynomial_coefficients(lambda x: rationals([f(x, degree)]), degree, 1)


@given(st.integers(0, 6), st.integers(-9, 12))
def test_a_power_is_accepted_exactly_from_zero_to_the_degree(degree, power):
    def f(x):
        return rationals([x**power])

    if 0 <= power <= degree:
        read = polynomial_coefficients(f, degree, degree + 1)
        assert read[:, 0].tolist() == [int(i == power) for i in range(degree + 1)]
    else:
        with pytest.raises(ArithmeticError, match=f"degree {degree}$"):
            polynomial_coefficients(f, degree, 1)


@pytest.mark.parametrize("f", [lambda p: p[0] ** 4 + p[1], lambda p: abs(p[0])])
def test_a_gradient_is_not_read_off_a_function_of_a_higher_degree(f):
    with pytest.raises(ArithmeticError, match=r"degree 2$"):
        exact_gradient(f, rationals([0, 1]), degree=2)


def test_one_component_that_is_no_polynomial_of_the_degree_is_noticed():
    with pytest.raises(ArithmeticError, match="degree 1"):
        polynomial_coefficients(lambda x: rationals([x, x**2, 1]), 1, 2)


def test_interpolation_never_evaluates_at_zero():
    assert polynomial_coefficients(lambda x: rationals([x**3 / x]), 2, 3)[:, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "measure",
    [
        lambda: polynomial_coefficients(lambda x: np.array([0.1 * float(x)]), 1, 2),
        lambda: polynomial_coefficients(lambda x: np.array([2.0]), 0, 1),
        lambda: exact_gradient(lambda p: p @ p, np.array([0.1, 0.2]), 2),
    ],
)
def test_floats_are_not_interpolated(measure):
    with pytest.raises(TypeError, match="exact arithmetic takes integers and Fractions"):
        measure()


@given(rational_vectors(3))
def test_the_exact_gradient_of_a_cubic_form_is_its_gradient(phi):
    x, y, _ = phi
    gradient = exact_gradient(lambda p: p[0] ** 2 * p[1] - 4 * p[2], phi, degree=3)
    assert gradient.tolist() == [2 * x * y, x * x, -4]


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[rational_vectors(n)] * (n + 1))))
def test_solve_solves(columns):
    *matrix, x = columns
    matrix = np.stack(matrix)
    try:
        solved = solve(matrix, matrix @ x)
    except ArithmeticError:
        assert round(np.linalg.det(matrix.astype(float)), 6) == 0
    else:
        assert (solved == x).all()


def test_a_singular_system_is_refused():
    with pytest.raises(ArithmeticError, match="singular"):
        solve(rationals([[1, 2], [2, 4]]), rationals([1, 1]))


@pytest.mark.parametrize(
    ("matrix", "rhs"), [([[1, 2, 3], [4, 5, 7]], [1, 2]), ([[1], [2]], [1, 2]), ([[1, 0], [0, 1]], [1])]
)
def test_a_matrix_that_is_not_square_and_a_right_side_of_another_length_are_refused(matrix, rhs):
    with pytest.raises(UsageError, match=r"^solve: shapes \(.*\) and \(.*\); give \(n, n\) and \(n,\)$"):
        solve(rationals(matrix), rationals(rhs))
    assert solve([[2, 0], [0, 4]], [1, 1]).tolist() == [Fraction(1, 2), Fraction(1, 4)]


@given(rational_vectors(2), rational_vectors(3))
def test_coordinates_split_a_vector_into_a_basis_and_what_is_orthogonal_to_it(c, vector):
    basis = rationals([[1, 0], [2, 1], [0, Fraction(1, 2)]])
    found, residual = coordinates(basis, basis @ c)
    assert (found == c).all()
    assert (residual == 0).all()
    found, residual = coordinates(basis, vector)
    assert (basis @ found + residual == vector).all()
    assert (basis.T @ residual == 0).all()


def test_integers_of_numpy_are_solved_exactly_and_floats_are_refused():
    matrix, rhs = np.array([[2, 1], [1, 3]]), np.array([1, 2])
    for kind in (int, object):
        assert solve(matrix.astype(kind), rhs.astype(kind)).tolist() == [Fraction(1, 5), Fraction(3, 5)]
    with pytest.raises(TypeError, match="exact arithmetic takes integers and Fractions"):
        solve(matrix.astype(float), rhs)
