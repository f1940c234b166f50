"""Figures: what the numbers are, and that each figure is made by one command."""

import builtins
import shutil
import sys

import numpy as np
import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import presets, runs
from reptile_np.experiments.figures import figure_2, figure_3, sources, style
from reptile_np.experiments.figures.style import Table
from reptile_np.experiments.presets import get
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn import models
from reptile_np.nn.ops import NUMPY
from tests.experiments.figure_tables import from_csv
from tests.experiments.small import experiment, small


@pytest.fixture(autouse=True)
def matplotlib(request):
    if "without" not in request.node.name:
        pytest.importorskip("matplotlib")


# The pictures


def fake_figure_3(folder, evaluations):
    for curve in figure_3.CURVES:
        preset = get(f"figure3-{curve}")
        directory = RunDirectory(folder / f"{preset.name}-seed0")
        with directory.begin(preset, 0):
            for i in range(evaluations):
                accuracy = {"transductive": 0.5, "non_transductive": 0.4 + 0.05 * i}
                directory.append({"outer_step": 400 * (i + 1), "tasks": 100, "accuracy": accuracy})
            directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})


def made(name, folder, *options):
    out = folder / f"figure-{name}"
    assert main(["figure", name, "--out", str(out), "--ops", "numpy", "--quiet", *map(str, options)]) == 0
    files = [out.with_name(out.name + end) for end in (".csv", ".png", ".svg", "-dark.png", "-dark.svg")]
    assert all(file.stat().st_size > 100 for file in files)
    return out


@pytest.fixture(scope="module")
def trained_sine_runs(tmp_path_factory):
    """The folder of runs of the three methods, of presets with fewer steps."""
    folder = tmp_path_factory.mktemp("sine-runs")
    for name in sources.SINE.values():
        runs.train(small(name), 0, NUMPY, out=folder / f"{name}-seed0", quiet=True)
    return folder


@pytest.fixture
def sine_runs(trained_sine_runs, tmp_path, monkeypatch):
    """A copy of these runs in the test's folder, for which their presets are those of the package."""
    shutil.copytree(trained_sine_runs, tmp_path, dirs_exist_ok=True)
    for name in sources.SINE.values():
        monkeypatch.setitem(presets.PRESETS, name, small(name))


@pytest.mark.usefixtures("sine_runs")
def test_figure_1_is_drawn_from_the_runs_of_the_three_methods(tmp_path):
    out = made("1", tmp_path, "--runs", tmp_path)
    assert from_csv(out.with_suffix(".csv")).distinct("initialisation") == [
        "random parameters",
        *sources.SINE,
    ]


@pytest.mark.usefixtures("sine_runs")
@pytest.mark.parametrize("trained_before", [True, False])
def test_each_panel_of_figure_1_begins_with_the_parameters_of_its_own_method(tmp_path, trained_before):
    """Without runs the methods are trained for it: with the same seed, to the same parameters."""
    table = sources.table("1", tmp_path if trained_before else None, NUMPY, quiet=True)
    begun = {"random parameters": experiment("sine-maml").start()}
    for panel, name in (("joint training", "joint"), ("MAML", "maml"), ("Reptile", "reptile")):
        run = RunDirectory(tmp_path / f"sine-{name}-seed0")
        begun[panel] = run.load(experiment(f"sine-{name}").start())
    line = np.linspace(-5, 5, 201, dtype=np.float32)[:, np.newaxis]
    for panel, step in begun.items():
        drawn = [row[3] for row in table.where(initialisation=panel, curve="step 0")]
        np.testing.assert_array_equal(drawn, models.sine_mlp().predict(step.phi, line)[:, 0])


@pytest.mark.usefixtures("sine_runs")
def test_figure_1_is_not_drawn_from_runs_that_are_not_finished(tmp_path, capsys):
    (tmp_path / "sine-maml-seed0" / "result.json").unlink()
    assert main(["figure", "1", "--runs", str(tmp_path), "--out", str(tmp_path / "x"), "--quiet"]) == 2
    assert "sine-maml-seed0: not a finished run" in capsys.readouterr().err


@pytest.mark.usefixtures("sine_runs")
@pytest.mark.parametrize("name", sources.SINE.values())
def test_figure_1_is_not_drawn_from_a_run_with_other_settings(tmp_path, monkeypatch, name):
    monkeypatch.setitem(presets.PRESETS, name, small(name, "outer.steps=41"))
    with pytest.raises(
        UsageError, match=f"{name}-seed0: was begun with outer.steps=40 instead of 41; .* presets' own"
    ):
        sources.table("1", tmp_path, NUMPY, quiet=True)


@pytest.mark.parametrize(("name", "preset"), [("3", "figure3-mean3"), ("same-k", "same-k-glyphs-reptile-k2")])
def test_a_figure_of_several_seeds_is_not_drawn_from_a_run_with_other_settings(tmp_path, name, preset):
    fake_figure_3(tmp_path, 4)
    changed = presets.with_settings(get(preset), ["outer.steps=4000"])
    directory = RunDirectory(tmp_path / f"{preset}-seed1")
    with directory.begin(changed, 1):
        directory.append({"outer_step": 400, "tasks": 100, "accuracy": {"non_transductive": 0.9}})
        directory.write_json("result.json", {"outer_steps": 4000, "seconds": 1.0})
    says = f"was begun with outer.steps=4000 instead of {get(preset).outer.steps}; use another folder: "
    says += "a figure is drawn from runs with the presets' own settings"
    with pytest.raises(UsageError, match=f"{preset}-seed1: {says}$"):
        sources.table(name, tmp_path, NUMPY)


def test_figure_2_is_the_same_bytes_every_time(tmp_path):
    (tmp_path / "again").mkdir()
    one, other = made("2", tmp_path), made("2", tmp_path / "again")
    for end in (".csv", ".svg", ".png"):
        assert one.with_suffix(end).read_bytes() == other.with_suffix(end).read_bytes()


def test_the_ending_of_a_picture_is_not_repeated(tmp_path):
    assert main(["figure", "2", "--out", str(tmp_path / "two.png")]) == 0
    names = {"two.csv", "two.png", "two.svg", "two-dark.png", "two-dark.svg"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_figure_2_refuses_runs_which_it_does_not_need(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "2", "--runs", str(tmp_path)]) == 2
    says = "figure 2 --runs: is for the other figures; leave it out"
    assert capsys.readouterr().err.splitlines() == [f"reptile-np: {says}"]
    assert list(tmp_path.iterdir()) == []


def test_figure_3_says_how_many_seeds_its_curves_have():
    rows = [("g1", 1, 400 * i, 0.5, 0.1) for i in (1, 2)] + [("sum2", 3, 400 * i, 0.9, 0.1) for i in (1, 2)]
    titles = []
    for some in (rows, rows[:2], rows[2:]):
        with style._themed(style.THEMES[""]) as figure:
            made_here = figure(figure_3.SIZE)
            table = Table(("curve", "seeds", "outer_step", "accuracy", "deviation"), tuple(some))
            figure_3.draw(made_here, table, style.THEMES[""])
            titles.append(made_here.get_suptitle().rpartition(", ")[2])
    assert titles == ["1 to 3 seeds", "1 seed", "3 seeds"]


def test_the_command_that_makes_the_runs_can_be_copied_whatever_their_folder_is_called(tmp_path):
    folder = tmp_path / "my runs"
    with pytest.raises(UsageError, match=rf"run: reptile-np reproduce figure3 --out '{folder}'$"):
        sources.table("3", folder, NUMPY)


def test_figure_3_is_drawn_from_the_accuracies_while_training(tmp_path):
    fake_figure_3(tmp_path, 4)
    out = made("3", tmp_path, "--runs", tmp_path)
    table = from_csv(out.with_suffix(".csv"))
    assert table.distinct("curve") == list(figure_3.CURVES)
    assert [row[3] for row in table.where(curve="g2")] == pytest.approx([0.4, 0.45, 0.475, 0.475])


def test_figure_3_leaves_out_a_run_that_is_not_finished(tmp_path):
    fake_figure_3(tmp_path, 4)
    before = sources.table("3", tmp_path, NUMPY)
    preset = get("figure3-g2")
    directory = RunDirectory(tmp_path / f"{preset.name}-seed1")
    with directory.begin(preset, 1):
        for i in range(4):
            accuracy = {"transductive": 0.9, "non_transductive": 0.9}
            directory.append({"outer_step": 400 * (i + 1), "tasks": 100, "accuracy": accuracy})
    assert sources.table("3", tmp_path, NUMPY) == before
    directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    assert {row[1] for row in sources.table("3", tmp_path, NUMPY).where(curve="g2")} == {2}


def test_the_inner_curve_is_drawn_from_the_recorded_evaluations(tmp_path, monkeypatch):
    runs.train(small("glyphs-5way"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    assert main(["figure", "curve", "--runs", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    result = runs.evaluate(tmp_path / "run", NUMPY, tasks=3, curve=True, jobs=1, quiet=True)
    table = from_csv(made("curve", tmp_path, "--runs", tmp_path).with_suffix(".csv"))
    monkeypatch.chdir(tmp_path)
    assert from_csv(made("curve", tmp_path, "--runs", "run").with_suffix(".csv")) == table  # a relative path
    for mode, points in result["curve"].items():
        for column, key in ((3, "mean"), (4, "ci95")):
            recorded = [row[column] for row in table.where(run="glyphs-5way, 1-shot", mode=mode)]
            assert recorded == [float(f"{point[key]:.6g}") for point in points]


@pytest.mark.parametrize(("name", "source"), [("same-k", "glyphs"), ("same-k-omniglot", "omniglot")])
def test_the_figure_at_the_same_k_is_drawn_from_the_records_of_the_study(tmp_path, name, source):
    means = {("reptile", 1): 0.5, ("reptile", 4): 0.75, ("joint", 1): 0.25}
    for (method, k), mean in means.items():
        preset = get(f"same-k-{source}-{method}-k{k}")
        directory = RunDirectory(tmp_path / f"{preset.name}-seed0")
        with directory.begin(preset, 0):
            modes = {mode: {"mean": mean, "ci95": 0.01} for mode in ("transductive", "non_transductive")}
            evaluation = {"split": "test", "tasks": 1000, "shots": 1, "accuracy": modes}
            directory.append({"outer_step": preset.outer.steps, "evaluation": evaluation})
            directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    table = from_csv(made(name, tmp_path, "--runs", tmp_path).with_suffix(".csv"))
    drawn = {(row[1], row[2]): row[5] / 100 for row in table.where(mode="transductive", images=source)}
    assert drawn == means


def test_a_run_of_the_same_k_that_was_not_evaluated_is_no_run_of_the_study(tmp_path):
    preset = get("same-k-glyphs-maml-k2")
    directory = RunDirectory(tmp_path / f"{preset.name}-seed0")
    with directory.begin(preset, 0):
        directory.append({"outer_step": preset.outer.steps})
        directory.write_json("result.json", {"outer_steps": preset.outer.steps, "seconds": 1.0})
    with pytest.raises(UsageError, match="no runs of the study; run: reptile-np reproduce same-k --out"):
        sources.table("same-k", tmp_path, NUMPY)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("3", "run: reptile-np reproduce figure3 --out"),
        ("curve", "reptile-np train --out makes one"),
        ("same-k", "run: reptile-np reproduce same-k --out"),
        ("same-k-omniglot", "run: reptile-np reproduce same-k-omniglot --out"),
    ],
)
def test_a_figure_that_lacks_its_runs_says_in_one_line_what_to_do(name, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for options in ([], ["--runs", str(tmp_path)]):
        assert main(["figure", name, "--out", str(tmp_path / "x"), *options]) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert says in error


def test_without_matplotlib_a_figure_is_refused_in_one_line_before_anything_is_trained(monkeypatch, capsys):
    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert main(["figure", "1"]) == 2
    error = capsys.readouterr().err
    assert "run: pip install matplotlib" in error
    assert len(error.splitlines()) == 1


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="choose another --out"):
        style.save(figure_2.table(), figure_2.draw, tmp_path / "file" / "x", figure_2.SIZE)


def test_the_place_of_a_figure_may_be_text_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files = style.save(figure_2.table(), figure_2.draw, "~/x", figure_2.SIZE)
    assert files[0] == tmp_path / "x.csv"
    assert sorted(files) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("place", [".", "..", "/", "folder"])
def test_a_folder_is_no_name_of_a_figure(tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["figure", "2", "--out", place]) == 2
    says = f"--out {place}: is a folder; give the name of a file in it, without an extension"
    assert capsys.readouterr().err.splitlines() == [f"reptile-np: {says}"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
