"""The table of ``reptile-np verify``: complete, all of it holds, and a false row would show."""

import json
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from reptile_np.cli import main
from reptile_np.theory.claims import algorithm, expansion, format_table, verify
from reptile_np.theory.claims.claim import Claim, at_least, close, equal
from reptile_np.theory.rational import rationals
from tests.cli.programs import environment
from tests.theory.measured import verified


@pytest.fixture(scope="module")
def claims():
    return verified()


def test_every_claim_holds(claims):
    assert [claim for claim in claims if not claim.holds] == []


@pytest.mark.parametrize(
    "place",
    ["Algorithm 1", "Algorithm 2", "section 3", "section 5.2", "figure 2", "erratum 1", "erratum 2"]
    + [
        "erratum 3",
        "erratum 4",
        "erratum 5",
        "erratum 7",
        "remark 1",
        "breakdown: Adam",
        "breakdown: batch norm",
    ]
    + ["breakdown: cycling", "breakdown: unequal", "beyond the paper", "section 4.2, end", "moving average"]
    + [f"eq. ({n})" for n in (1, 2, 4, 5, 6, 7, 11, 14, 15, 16, 17, 18, 23)]
    + ["eqs (7)-(8)", "eqs (9)-(10)", "eqs (11)-(13)", "eqs (18)-(20)", "eqs (21)-(23)"],
)
def test_every_place_of_the_paper_has_a_claim(claims, place):
    assert any(place in claim.source for claim in claims)


def test_no_two_claims_are_the_same(claims):
    assert len({(claim.claim, claim.source) for claim in claims}) == len(claims)


def test_claims_are_json(claims):
    assert json.loads(json.dumps([claim._asdict() for claim in claims]))[0].keys() == {
        *("claim", "source", "stated", "measured", "tolerance", "holds")
    }


def test_exact_claims_are_equalities_of_fractions(claims):
    exact = [claim for claim in claims if claim.tolerance == 0 and not str(claim.stated).startswith(">=")]
    beyond = [claim for claim in claims if "beyond" in claim.source or "breakdown" in claim.source]
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"checks {len(claims)} statements, {len(exact)} of them as equalities of fractions" in text
    assert f"and {len(beyond)} statements that go beyond the analysis or show where it does not apply" in text
    for claim in exact:
        measured = [Fraction(number) for number in claim.measured.split(", ")]
        assert measured == [Fraction(number) for number in claim.stated.split(", ")]


def test_the_table_shows_every_claim_and_counts():
    table = format_table(
        [close("a", "here", 1.0, 1.5, 0.1), equal("b", "there", [1, 2], [1, Fraction(1, 2)])]
    )
    assert "FAILS  a" in table
    assert "stated 1, 2, measured 1, 1/2" in table
    assert table.endswith("2 claims: 2 do not hold")
    assert format_table([close("a", "here", 1.0, 1.05, 0.1)]).endswith("1 claims: all hold")


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        (equal("", "", 1, Fraction(1)), True),
        (equal("", "", [1, 2], [1]), False),
        (equal("", "", 1, None), False),
        (close("", "", 0.0, float("nan"), 1.0), False),
        (close("", "", 2.0, 2.04, 0.05), True),
        (at_least("", "", 0.1, 0.09), False),
        (at_least("", "", 0.1, float("nan")), False),
    ],
)
def test_a_row_holds_exactly_when_its_statement_is_true(claim, holds):
    assert isinstance(claim, Claim)
    assert claim.holds is holds


def test_a_float_never_enters_an_exact_row():
    with pytest.raises(TypeError):
        equal("", "", 1, 1.0)


# what is claimed cannot shrink or soften unseen

LIST = Path(__file__).with_name("claims.txt")


def listed(claim):
    """The line of a claim in claims.txt: all but the measurement."""
    return f"{claim.source} | {claim.claim} | {claim.stated} | {claim.tolerance:g}"


def test_the_claims_are_those_of_the_committed_list(claims):
    """After a change that is meant: ``python -m tests.theory.test_claims`` writes the list anew."""
    assert [listed(claim) for claim in claims] == LIST.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("measured", [2.0501, 1.9499, 2.09, float("inf")])
def test_no_more_than_the_tolerance_is_tolerated(measured):
    assert not close("", "", 2.0, measured, 0.05).holds


def test_no_less_than_the_bound_is_enough():
    assert at_least("", "", 0.1, 0.1).holds
    assert not at_least("", "", 0.1, 0.0999).holds


def test_a_vector_outside_the_span_has_no_coefficients():
    basis = rationals([[1, 0, 0], [0, 1, 0]])
    assert expansion.coordinates_in(basis, rationals([2, 3, 0])) == [2, 3]
    assert expansion.coordinates_in(basis, rationals([2, 3, 1])) == [None, None]


def test_a_vector_that_is_parallel_in_some_entries_only_is_no_multiple():
    assert algorithm.multiple_of(rationals([2, 4]), rationals([1, 2])) == 2
    assert algorithm.multiple_of(rationals([2, 5]), rationals([1, 2])) is None


def test_verify_exits_with_1_if_one_claim_does_not_hold(monkeypatch, capsys):
    rows = [close("a", "here", 1.0, 1.0, 0.1), close("b", "here", 1.0, 2.0, 0.1)]
    monkeypatch.setattr("reptile_np.theory.claims.verify", lambda: rows)
    assert main(["verify"]) == 1
    monkeypatch.setattr("reptile_np.theory.claims.verify", lambda: rows[:1])
    assert main(["verify"]) == 0
    capsys.readouterr()


def test_the_claims_encode_in_ascii(claims, tmp_path):
    """The program itself, given the claims that `verify` has returned to this test."""
    (tmp_path / "claims").write_bytes(pickle.dumps(claims))
    program = (
        "import pickle, sys; from reptile_np.theory import claims; rows = open(sys.argv.pop(), 'rb').read();"
        "claims.verify = lambda: pickle.loads(rows); from reptile_np.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "verify", tmp_path / "claims"]
    env = environment(PYTHONIOENCODING="ascii")
    shown = subprocess.run(command, env=env, encoding="ascii", capture_output=True)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.count("holds") == len(claims)
    assert "?" not in shown.stdout


def test_no_claim_is_about_tasks_experiments_or_native_kernels():
    program = (
        "import sys, reptile_np.theory.claims as claims; claims.manifold.verify(); claims.breakdown.verify();"
        "print([name for name in sys.modules if name.startswith("
        "('reptile_np.tasks', 'reptile_np.experiments', 'reptile_np.nn.native'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_measured_coefficient_that_does_not_exist_is_shown_as_outside_the_span():
    claim = equal("coefficients", "section 5", [1, 2], [1, None])
    assert (claim.stated, claim.measured, claim.holds) == ("1, 2", "1, outside the span", False)


if __name__ == "__main__":
    LIST.write_text("".join(f"{listed(claim)}\n" for claim in verify()), encoding="utf-8")
