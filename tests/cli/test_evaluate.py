"""``evaluate`` prints what was measured, and passes its options on."""

from functools import partial

import pytest

from reptile_np.cli import main
from reptile_np.cli.training import interval
from reptile_np.errors import UsageError
from reptile_np.experiments import paired, runs

EVALUATE = ["evaluate", "pretrained:glyphs-5way", "--ops", "numpy"]


SCORES = {"transductive": {"mean": 0.9, "ci95": 0.02}, "non_transductive": {"mean": 0.8, "ci95": 0.03}}


def shown_by_evaluate(monkeypatch, capsys, result, *more):
    """What `evaluate` prints of a result."""
    about = {"shots": 1, "ways": 5, "tasks": 7}
    for module, name in ((runs, "evaluate"), (paired, "compare")):
        monkeypatch.setattr(module, name, lambda *args, **options: {**about, **result})
    assert main([*EVALUATE, *more]) == 0
    return capsys.readouterr().out.splitlines()


def test_evaluate_prints_means_intervals_and_errors(monkeypatch, capsys):
    show = partial(shown_by_evaluate, monkeypatch, capsys)
    assert show({"accuracy": SCORES}) == [
        "1-shot 5-way, 7 tasks of the test set",
        "    transductive: 90.00% ± 2.00%",
        "non-transductive: 80.00% ± 3.00%",
    ]
    errors = {"error_before": 4.0, "error": 0.25}
    assert show(errors) == ["squared error 4.000, after fine-tuning 0.250 (7 tasks, 1 point each)"]
    curve = {"curve": {"transductive": [{"mean": 0.2, "ci95": 0.1}, {"mean": 0.9, "ci95": 0.02}]}}
    assert show({"accuracy": SCORES, **curve}, "--curve")[-1] == "    transductive: 20.0% 90.0%"


@pytest.mark.parametrize(("half", "width"), [(None, "(one task: no interval)"), (0.05, "± 5.00%")])
def test_a_comparison_prints_the_first_run_minus_the_second(monkeypatch, capsys, half, width):
    result = {
        name: {"accuracy": {"transductive": {"mean": mean, "ci95": 0.1}}}
        for name, mean in (("a", 0.9), ("b", 0.7))
    }
    result["difference"] = {"transductive": {"mean": 0.2, "ci95": half}}
    other = "pretrained:omniglot-5way"
    assert shown_by_evaluate(monkeypatch, capsys, result, "--compare", other) == [
        f"{EVALUATE[1]} minus {other}: 1-shot 5-way, 7 tasks of the test set",
        f"    transductive: 90.00% - 70.00% = +20.00% {width}",
    ]


def test_evaluate_passes_its_options_on(monkeypatch, tmp_path):
    asked = {}

    def refuse(run, ops, **options):
        asked.update(options, ops=ops.name)
        raise UsageError("asked")

    monkeypatch.setattr(runs, "evaluate", refuse)
    options = ["--split", "validation", "--tasks", "7", "--shots", "3", "--jobs", "2", "--curve", "--quiet"]
    options += ["--set", "tasks.source=folder"]
    assert main([*EVALUATE, *options, "--data", str(tmp_path)]) == 2
    assert asked == {
        "settings": ["tasks.source=folder"], "ops": "numpy", "curve": True, "data": tmp_path, "tasks": 7,
        "shots": 3, "split": "validation", "jobs": 2, "quiet": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.9554, 0.0018, "95.54% ± 0.18%"),
        (0.99, 0.0196, "99.00% (97.04% to 100.00%)"),
        (0.01, 0.0196, "1.00% (0.00% to 2.96%)"),
        (0.75, 0.25, "75.00% ± 25.00%"),
        (0.25, 0.25, "25.00% ± 25.00%"),
    ],
)
def test_no_interval_reaches_beyond_0_or_100_percent(mean, half, text):
    assert interval(mean, half, 2) == text
