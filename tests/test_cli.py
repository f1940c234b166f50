"""The command line: the contract's keys and exit codes, and one clear line for every mistake."""

import json
import signal
import subprocess
import sys
import time

import pytest

from reptile_np.cli import main

GLYPHS = ["train", "glyphs-5way", "--ops", "numpy"]
for setting in ("outer.steps=2", "outer.meta_batch=1", "evaluation.tasks=2", "filters=2", "tasks.classes=50"):
    GLYPHS += ["--set", setting]


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_train_prints_the_contract_s_keys(capsys):
    assert main([*GLYPHS, "--seed", "3", "--json"]) == 0
    result = last_json(capsys)
    keys = {"preset", "seed", "ops", "threads", "outer_steps", "seconds", "accuracy", "accuracy_untrained"}
    assert keys <= set(result)
    assert (result["preset"], result["seed"], result["ops"]) == ("glyphs-5way", 3, "numpy")
    assert set(result["accuracy"]) == {"transductive", "non_transductive"}


def test_train_without_json_ends_with_before_and_after(capsys):
    assert main(GLYPHS) == 0
    before, after = capsys.readouterr().out.splitlines()[-2:]
    assert before.strip().startswith("untrained:")
    assert after.strip().startswith("meta-trained:")


def test_evaluate_prints_both_modes_with_intervals(capsys, tmp_path):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out]) == 0
    assert main(["evaluate", out, "--tasks", "2", "--shots", "2", "--ops", "numpy", "--json"]) == 0
    result = last_json(capsys)
    assert (result["tasks"], result["shots"], result["ways"]) == (2, 2, 5)
    assert all(set(value) == {"mean", "ci95"} for value in result["accuracy"].values())


def test_list_names_every_preset_and_the_kernels(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "omniglot-5way" in out
    assert "kernels: numpy" in out
    assert main(["list", "--json"]) == 0
    assert len(last_json(capsys)["presets"]) == 22


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "kill"])
def test_a_run_that_is_stopped_saves_its_state_and_says_how_to_go_on(tmp_path, stop):
    if signal.getsignal(stop) is signal.SIG_IGN:
        pytest.skip("this process was told to ignore that signal, and so are its children")
    command = [sys.executable, "-m", "reptile_np", *GLYPHS, "--set", "outer.steps=100000", "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as run:
        while not (tmp_path / "run" / "records.jsonl").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(stop)
        message = run.communicate(timeout=60)[1].splitlines()[-1]
    assert (run.returncode, message) == (130, "reptile-np: stopped; a run with --out goes on with --resume")
    assert (tmp_path / "run" / "checkpoint.npz").exists()


def test_a_run_goes_on_from_the_command_line(capsys, tmp_path):
    out = str(tmp_path / "run")
    assert main([*GLYPHS, "--out", out]) == 0
    assert main([*GLYPHS, "--out", out]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*GLYPHS, "--out", out, "--resume"]) == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "required"),
        (["fly"], "invalid choice"),
        (["train"], "preset"),
        (["train", "omniglot-6way"], "did you mean"),
        (["train", "sine-maml", "--set", "outer.stops=3"], "no such key"),
        (["train", "sine-maml", "--seed", "-1"], "at least 0"),
        (["train", "sine-maml", "--seed", "one"], "integer"),
        (["train", "sine-maml", "--ops", "cuda"], "--ops"),
        (["train", "sine-maml", "--ops", "native-vax"], "vax"),
        (["train", "sine-maml", "--threads", "0"], "at least 1"),
        (["train", "sine-maml", "--resume"], "--out"),
        (["train", "omniglot-5way", "--data", "/nowhere"], "/nowhere"),
        (["train", "sine-maml", "--out", "/proc/nowhere"], "--out"),
        (["evaluate", "/nowhere"], "/nowhere"),
        (["evaluate", "/nowhere", "--tasks", "0"], "at least 1"),
        (["data", "cifar"], "invalid choice"),
        (["data", "omniglot", "--from", "/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, args, says):
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err


def test_python_m_reptile_np_is_the_same_program():
    run = subprocess.run(
        [sys.executable, "-m", "reptile_np", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("reptile-np ")
