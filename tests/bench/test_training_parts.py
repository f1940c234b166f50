"""``benchmarks/training_parts.py`` times parts of the training that ``reptile-np train`` does."""

import pytest

from benchmarks import training_parts
from reptile_np.experiments.backend import choose_ops
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.presets import get, with_settings
from reptile_np.meta import training
from reptile_np.nn import native
from reptile_np.nn.native.calls import NetworkCalls

SETTINGS = ("tasks.classes=50", "filters=4", "outer.meta_batch=2")
pytestmark = pytest.mark.skipif(not native.available(), reason="native kernels are not built here")


def test_every_outer_step_is_divided_into_parts_that_do_not_overlap():
    preset = with_settings(get("glyphs-5way"), SETTINGS)
    rows = training_parts.seconds_of_parts(preset, None, outer_steps=3, threads=1)
    assert len(rows) == 3
    for row in rows:
        assert set(row) == set(training_parts.PARTS)
        assert 0 < sum(row[part] for part in training_parts.PARTS if part != "all") < row["all"]


@pytest.mark.parametrize(
    "arguments", [["sine-joint", "--outer-steps", "1"], ["glyphs-5way", "--outer-steps", "0"]]
)
def test_a_preset_of_another_kind_and_no_outer_steps_are_refused_in_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training_parts.py", *arguments])
    with pytest.raises(SystemExit):
        training_parts.main()
    assert capsys.readouterr().err.splitlines()[-1].startswith("training_parts.py: error: ")


def test_nothing_stays_timed_afterwards():
    before = NetworkCalls.loop, training.optimizer_step
    preset = with_settings(get("glyphs-5way"), SETTINGS)
    training_parts.seconds_of_parts(preset, None, outer_steps=1, threads=1)
    assert (NetworkCalls.loop, training.optimizer_step) == before
    assert make_experiment(preset, 0, choose_ops("auto", 1)).episodes.training(0, 0)


def test_what_is_printed_leaves_out_the_first_fifth_and_compares_with_the_inner_loops(monkeypatch, capsys):
    def row(inner):
        return {"inner loops": inner, "drawing": 0.1, "outer update": 0.1, "all": 1.5 * inner}

    rows = [{**row(9.0), "all": 90.0}, *(row(inner) for inner in (0.1, 0.2, 0.3, 0.4))]
    monkeypatch.setattr(training_parts, "seconds_of_parts", lambda *_: rows)
    monkeypatch.setattr("sys.argv", ["training_parts.py", "glyphs-5way"])
    training_parts.main()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.split() == ["inner", "loops", "median", "250.000", "ms", "least", "100.000", "ms"]
    assert last == "not an inner loop: 50.0% of the inner loops' time (median)"
