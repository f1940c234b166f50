"""Errors planted in the public checks: (module, old text, new text, the statement that refutes it)."""

from tests.mutants import check_statements as checks
from tests.mutants.planting import mutants

MUTANTS = [
    *mutants(
        "checks.gradients",
        checks.a_gradient_that_is_1e_5_off_is_refused_and_its_piece_named,
        ("tolerance: float = 1e-6", "tolerance: float = 1e-4"),
        ("v[piece] = _unit(rng, size)", "v[piece] = 0 * _unit(rng, size)"),
        ('yield Direction(f"piece {name}"', 'yield Direction("a piece"'),
        (
            "Comparison(d.name, stated, measured, typical)",
            "Comparison(d.name, measured.value, measured, typical)",
        ),
    ),
    *mutants(
        "checks.gradients",
        checks.a_hessian_product_that_is_no_hessians_is_refused,
        ("_check_linear(both,", "_check_linear(2 * hu - 3 * hv,"),
        ("asymmetric = abs(one - other) >", "asymmetric = abs(one + other) >"),
        ("asymmetric = abs(one - other) >", "asymmetric = abs(one - other) <"),
        (
            "stated = model.hvp(phi, batch, d.v)",
            "stated = slope(lambda t: model.grad(phi + t * d.v, batch)).value",
        ),
    ),
    *mutants(
        "checks.gradients",
        checks.what_cannot_be_checked_is_refused,
        ("    check_phi(phi)\n", ""),
        ("    check_options(count, tolerance, seed)\n", ""),
    ),
    *mutants(
        "checks.functions",
        checks.what_cannot_be_checked_is_refused,
        ('("directions", directions, 1)', '("directions", directions, 0)'),
    ),
    *mutants(
        "checks.comparisons",
        checks.a_gradient_that_is_1e_5_off_is_refused_and_its_piece_named,
        ("if not relative(c) <= self.tolerance", "if relative(c) <= self.tolerance"),
        ("return 0.0 if whole_float32 else ROUNDINGS", "return 1e9 * ROUNDINGS"),
        ("if not stated.any()", "if stated.any()"),
        ("float(stated @ truths / (truths @ truths))", "float(truths @ truths / (stated @ truths))"),
    ),
    *mutants(
        "checks.comparisons",
        checks.a_slope_is_the_derivative_and_a_kink_is_seen,
        ("if kinks and (not wrong or", "if not kinks and (not wrong or"),
        ("any(math.isinf(c.measured.jump)", "any(math.isnan(c.measured.jump)"),
        ("return c.measured.jump >", "return c.measured.jump < -"),
    ),
    *mutants(
        "checks.differences",
        checks.a_slope_is_the_derivative_and_a_kink_is_seen,
        ("(right - left) / (2 * h)", "(right - left) / h"),
        ("jump.add(_bend(middle, right, left) / h", "jump.add((right - left) / h"),
        ("if _is_jump(middle, near)", "if False"),
        ("slopes[1:] < 0.95 * slopes[:-1]", "slopes[1:] < slopes[:-1] + 99"),
        ("column[-1] - coarser) / (2", "coarser - column[-1]) / (2"),
    ),
    *mutants(
        "checks.differences",
        checks.right_derivatives_pass_with_a_small_error,
        ("if max(change, rounding) <= self.uncertainty", "if max(change, rounding) > self.uncertainty"),
    ),
    *mutants(
        "checks.taylor",
        checks.the_order_of_the_remainder_tells_a_wrong_gradient_from_a_wrong_product,
        ("found = order - math.log(growth)", "found = order + math.log(growth)"),
        ("error = max(order - found, 0.0)", "error = max(found - order, 0.0)"),
        ("if found < 1.5 or hvp is None", "if found > 1.5 or hvp is None"),
    ),
    *mutants(
        "checks.taylor",
        checks.right_derivatives_pass_with_a_small_error,
        ("t * (grad @ v)", "2 * t * (grad @ v)"),
        ("t**2 * curve / 2", "t**2 * curve"),
        ("(2 if hvp is None else 3)", "(3 if hvp is None else 3)"),
    ),
]
