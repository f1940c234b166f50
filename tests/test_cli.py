"""The command line: the contract's keys and exit codes, and one clear line for every mistake."""

import io
import json
import re
import subprocess
import sys

import pytest

from reptile_np.cli import main, terminal
from reptile_np.experiments import presets, targets
from reptile_np.nn.native.threads import MOST_THREADS

SMALL = (
    "outer.steps=2", "outer.meta_batch=1", "evaluation.tasks=2", "evaluation.steps=2", "filters=2",
    "tasks.classes=50",
)  # fmt: skip
GLYPHS = ["train", "glyphs-5way", "--ops", "numpy"]
for setting in SMALL:
    GLYPHS += ["--set", setting]


OURS = "Not in the paper"


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_train_prints_the_contract_s_keys(capsys):
    assert main([*GLYPHS, "--seed", "3", "--json"]) == 0
    result = last_json(capsys)
    keys = {"preset", "seed", "ops", "threads", "outer_steps", "seconds", "accuracy", "accuracy_untrained"}
    assert keys <= set(result)
    assert (result["preset"], result["seed"], result["ops"]) == ("glyphs-5way", 3, "numpy")
    assert set(result["accuracy"]) == {"transductive", "non_transductive"}


def test_a_preset_of_the_same_k_study_can_be_trained(capsys):
    small = ["--set", "outer.steps=1", "--set", "evaluation.tasks=2", "--ops", "numpy", "--json"]
    assert main(["train", "same-k-glyphs-joint-k1", *small]) == 0
    assert last_json(capsys)["preset"] == "same-k-glyphs-joint-k1"


def test_quiet_leaves_only_the_result(capsys, tmp_path):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out, "--quiet"]) == 0
    assert main(["evaluate", out, "--tasks", "2", "--ops", "numpy", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out
    assert main([*GLYPHS]) == 0
    assert "train glyphs-5way: 2/2" in capsys.readouterr().err


def test_evaluate_prints_both_modes_with_intervals(capsys, tmp_path):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out]) == 0
    assert main(["evaluate", out, "--tasks", "2", "--shots", "2", "--ops", "numpy", "--json"]) == 0
    result = last_json(capsys)
    assert (result["tasks"], result["shots"], result["ways"]) == (2, 2, 5)
    assert all(set(value) == {"mean", "ci95"} for value in result["accuracy"].values())


TOO_LARGE = [f"--set={x}" for x in ("outer.steps=1000000", "tasks.replacement=true", "inner.batch=1000")]

TOO_MANY_SHOTS = [f"--set={x}" for x in ("outer.steps=1000000", "evaluation.shots=20")]


def test_without_a_command_it_helps(capsys):
    assert main([]) == 0
    assert "reptile-np train glyphs-5way" in capsys.readouterr().out


def test_the_help_of_train_names_presets_and_keys(capsys):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in [*presets.PRESETS, *presets.setting_keys()])
    assert max(map(len, out.splitlines())) <= 88  # the last example


def test_list_names_every_preset_once_and_the_kernels_in_80_columns(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name, preset in presets.PRESETS.items():
        (row,) = [line for line in lines if line.startswith(f"  {name} ")]  # in one group only
        assert row.endswith(preset.cost)
        above = lines[: lines.index(row)]
        heading = [line for line in above if line and not line.startswith(" ")][-1]
        (target,) = [t for t in targets.TARGETS.values() if name in t.presets] or [None]
        assert heading == (f"{target.title} (reptile-np reproduce {target.name})" if target else OURS)
    shown = " ".join(" ".join(lines).split())
    for name, preset in presets.PRESETS.items():  # alone, or after the names of those that share the source
        assert re.search(rf"source( of [^:]*\b{re.escape(name)}\b[^:]*)?: {re.escape(preset.source)}", shown)
    assert any(line.startswith("  same-k-glyphs-maml-k1…8 ") for line in lines)
    assert any(line.startswith("kernels: numpy") for line in lines)
    assert main(["list", "--json"]) == 0
    assert len(last_json(capsys)["presets"]) == len(presets.PRESETS)


def test_a_second_setting_without_an_option_of_its_own_is_explained(capsys):
    words = ["glyphs-5way", "--set", "outer.steps=5", "evaluation.tasks=2"]
    assert main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert "unrecognized arguments: evaluation.tasks=2; give each setting a --set of its own" in said


@pytest.mark.parametrize("name", ["x.pdf", "x.JPG"])
def test_a_figure_of_another_format_is_refused_before_it_is_drawn(tmp_path, capsys, name):
    assert main(["figure", "2", "--out", str(tmp_path / name)]) == 2
    assert (
        f"{name}: a figure is written as .csv, .png, .svg; leave out .{name[2:]}" in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_show_prints_every_value_of_a_preset_in_80_columns(capsys):
    assert main(["show", "omniglot-5way", "--json"]) == 0
    values = last_json(capsys)
    assert main(["show", "omniglot-5way"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["outer.steps", "100000"] for line in lines)
    for section, value in values.items():
        keys = [f"{section}.{key}" for key in value] if isinstance(value, dict) else [section]
        assert all(any(line.split()[0] == key for line in lines) for key in keys)


def test_verify_exits_with_1_if_one_claim_of_many_fails(capsys, monkeypatch):
    from reptile_np.theory import claims
    from reptile_np.theory.claims.claim import Claim

    def claim(holds):
        values = {"claim": "1 = 1", "source": "eq. (1)", "stated": "1", "measured": "1", "tolerance": 0.0}
        return Claim(**values, holds=holds)

    for answers, code in (([True, False, True], 1), ([True, True], 0)):
        monkeypatch.setattr(claims, "verify", lambda answers=answers: [claim(a) for a in answers])
        assert main(["verify"]) == code
        assert main(["verify", "--json"]) == code
        assert [c["holds"] for c in last_json(capsys)["claims"]] == answers


def test_a_run_goes_on_with_nothing_but_its_directory(capsys, tmp_path):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out, "--seed", "3", "--json"]) == 0
    first = last_json(capsys)
    assert main([*GLYPHS, "--out", out]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--out", out, "--resume", "--ops", "numpy", "--json"]) == 0
    again = last_json(capsys)
    assert (again["preset"], again["seed"], again["accuracy"]) == ("glyphs-5way", 3, first["accuracy"])
    assert main([*GLYPHS, "--out", out, "--seed", "3", "--resume"]) == 0  # all said again, all the same


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["sine-maml"], "holds a run of glyphs-5way"),
        (["glyphs-5way", "--seed", "4"], "seed 0"),
        (["--set", "outer.steps=9"], "was begun with outer.steps=2 instead of 9; leave out --set"),
    ],
)
def test_a_run_does_not_go_on_as_another_one(capsys, tmp_path, args, says):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    capsys.readouterr()
    assert main(["train", *args, "--out", out, "--resume", "--ops", "numpy"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert says in error
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}


def test_train_prints_the_accuracies_before_and_after_training_under_their_names(capsys, monkeypatch):
    from reptile_np.experiments import runs

    train = runs.train

    def given(*args, **options):
        values = {"accuracy": (0.9, 0.8), "ci95": (0.02, 0.03), "accuracy_untrained": (0.4, 0.3)}
        values["ci95_untrained"] = (0.05, 0.06)
        modes = ("transductive", "non_transductive")
        return train(*args, **options) | {
            key: dict(zip(modes, value, strict=True)) for key, value in values.items()
        }

    monkeypatch.setattr(runs, "train", given)
    assert main(GLYPHS) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [" ".join(line) for line in words] == [
        "untrained: transductive 40.0% ± 5.0%, non-transductive 30.0% ± 6.0%",
        "meta-trained: transductive 90.0% ± 2.0%, non-transductive 80.0% ± 3.0%",
    ]


def test_a_note_of_a_signal_that_comes_during_another_is_written(monkeypatch, capfd):
    class Busy(io.StringIO):
        def write(self, text):
            raise RuntimeError("reentrant call")

    monkeypatch.setattr(sys, "stderr", Busy())
    terminal.note("stopped")
    assert capfd.readouterr().err == "reptile-np: stopped\n"


@pytest.mark.parametrize(
    ("args", "announced"),
    [
        (["glyphs-5way", "--set", "outer.steps=1000000"], True),
        (["glyphs-5way", "--set", "outer.steps=100"], False),
        (["glyphs-5way", "--set", "outer.steps=1000000", "--out", "run"], False),
        (["sine-joint"], False),
    ],
)
def test_a_long_run_without_out_first_says_what_is_lost(capsys, monkeypatch, tmp_path, args, announced):
    from reptile_np.experiments import runs

    def train(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.chdir(tmp_path)
    assert main(["train", *args, "--ops", "numpy"]) == 130
    first = capsys.readouterr().err.splitlines()[0]
    assert ("add: --out runs/glyphs-5way-seed0" in first) == announced


def test_more_threads_than_any_table_takes_are_refused(capsys):
    for ops in ("numpy", "auto"):
        assert main(["train", "sine-maml", "--ops", ops, "--threads", str(MOST_THREADS + 1)]) == 2
        assert f"1 to {MOST_THREADS}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fly"], "invalid choice"),
        (["train"], "preset"),
        (["train", "omniglot-6way"], "did you mean"),
        (["train", "omni\nglot\x1b[31m"], r"omni\nglot\x1b[31m"),
        (["show", "omniglot-6way"], "did you mean"),
        (["train", "sine-maml", "--set", "outer.stops=3"], "no such key"),
        (["train", "sine-maml", "--set", "outer.steps=\nx\u2028"], r"outer.steps=\nx\u2028"),
        (["train", "sine-maml", "--seed", "-1"], "at least 0"),
        (["train", "sine-maml", "--seed", "one"], "integer"),
        (["train", "sine-maml", "--ops", "cuda"], "--ops"),
        (["train", "sine-maml", "--ops", "native-vax"], "vax"),
        (["train", "sine-maml", "--threads", "0"], "at least 1"),
        (["train", "sine-maml", "--resume"], "--out"),
        (["train", "omniglot-5way", "--set", "outer.steps=9", "--data", "/nowhere"], "/nowhere"),
        (["train", "omniglot-5way", "--data", "~nosuchuser/images"], "no such user"),
        (["train", "sine-maml", "--out", "/proc/nowhere"], "/proc/nowhere: cannot be written"),
        (["train", "sine-maml", "--out", "x" * 300], "too long"),
        (["evaluate", "/nowhere"], "/nowhere"),
        (["evaluate", ""], "is empty; is a shell variable not set?"),
        (["evaluate", "pretrained:glyphs-5way", "--tasks", "1", "--compare", ""], "is empty; is a shell"),
        (["evaluate", "~nosuchuser/x"], "~nosuchuser/x: there is no such user"),
        (["evaluate", "pretrained:glyphs-5way", "--compare", "~nosuchuser/x"], "there is no such user"),
        (["reproduce", "table2", "--dry-run", "--only", ""], "--only: is empty; is a shell"),
        (["evaluate", "y" * 300], "y" * 300),
        (["evaluate", "/nowhere", "--tasks", "0"], "at least 1"),
        (["runs", "/nowhere"], "/nowhere"),
        (["runs", ".", "--compare", "nowhere", "nobody"], "nowhere"),
        (["runs", ".", "--compare", "nowhere", ""], "--compare: is empty; is a shell"),
        (["bench", "--json", "/dev/null/bench.json"], "/dev/null"),
        (["train", "glyphs-5way", *TOO_LARGE], "inner.batch=1000: at most 50"),  # and no note before it
        (["train", "glyphs-5way", *TOO_MANY_SHOTS], "evaluation.shots=20: a test class has 20 images"),
        (["bench", "--json", "/dev"], "/dev: is not a regular file"),
        (["bench", "--json", "/dev/null"], "/dev/null: is not a regular file"),
        (["bench", "--works", "no such work"], "matches no workload"),
        (["bench", "--threads", "100000"], "cores"),
        (["bench", "--seconds", "nan"], "positive"),
        (["data", "cifar"], "invalid choice"),
        (["data", "omniglot", "--from", "/nowhere"], "/nowhere"),
        (["data", "omniglot", "--from", "z" * 300], "z" * 300),
        (["data", "omniglot", "--from", "~nosuchuser"], "no such user"),
        (["data", "omniglot", "--from", "http://localhost:1/\n\x1b]0;x\x07"], r"\n\x1b]0;x\x07"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path, tmp_path_factory, args, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err
    assert captured.err.rstrip("\n").isprintable()
    assert list(tmp_path.iterdir()) == []


def test_python_m_reptile_np_is_the_same_program():
    run = subprocess.run(
        [sys.executable, "-m", "reptile_np", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"reptile-np \d+\.\d+\.\d+\n", run.stdout)
