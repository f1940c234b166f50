"""Released weights: what they are, how a file of them is made, and damaged ones."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reptile_np import pretrained
from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import presets, runs
from reptile_np.experiments.checkpoints import save_step
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.run_json import identity
from reptile_np.experiments.settings import from_json
from reptile_np.meta.training import Step
from reptile_np.nn.ops import NUMPY
from reptile_np.pretrained import __main__, weights
from reptile_np.tasks import archives
from tests.experiments.small import small

FOLDER = Path(weights.__file__).parent
NAMES = pretrained.names()


def test_there_are_characters_and_waves():
    assert {"glyphs-5way", "sine-reptile", "sine-maml", "sine-joint"} <= set(NAMES)


def test_the_files_are_small():
    sizes = {file.stem: file.stat().st_size for file in FOLDER.glob("*.npz")}
    assert sum(sizes.values()) - sizes["mini-imagenet-5way"] < 2_000_000
    assert sum(sizes.values()) < 2_300_000


@pytest.mark.parametrize("name", NAMES)
def test_the_record_says_which_whole_run_gave_the_weights(name):
    trained = pretrained.load(name)
    preset = from_json(trained.record["preset"])
    assert preset == presets.get(name)
    assert trained.record["outer_steps"] == preset.outer.steps == trained.record["result"]["outer_steps"]
    assert trained.phi.shape == (trained.model.layout.size,)
    assert trained.phi.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("sine")])
def test_the_moments_of_adam_go_on_from_training(name):
    trained = pretrained.load(name)
    preset = from_json(trained.record["preset"])
    assert trained.state.t == preset.inner_steps
    assert trained.state.v.shape == trained.phi.shape
    assert trained.state.v.max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_released_weights_in_the_place_of_a_run_are_its_whole_trained_state(name):
    trained, released = pretrained.load(name), weights.ReleasedRun(name)
    step = released.load(Step(0, 0 * trained.phi, "the template's", "the outer optimiser's", 0.0, 0.0))
    assert (step.done, step.outer_state) == (released.config()[0].outer.steps, "the outer optimiser's")
    np.testing.assert_array_equal(step.phi, trained.phi)
    for found, expected in zip(step.inner_state, trained.state, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_released_waves_give_the_errors_of_their_record():
    for name in ("sine-reptile", "sine-maml", "sine-joint"):
        trained = pretrained.load(name)
        result = runs.evaluate(
            pretrained.saved_run(f"pretrained:{name}"), NUMPY, tasks=100, jobs=1, quiet=True
        )
        # The record is of C kernels, which give it exactly; NumPy rounds otherwise, and other processors'
        # NumPy again otherwise: 8e-8 was measured, a hundred times as much is allowed.
        assert result["error"] == pytest.approx(trained.record["result"]["error"], rel=1e-5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "glyphs"
    runs.train(small("glyphs-5way"), 0, NUMPY, out=path, quiet=True)
    runs.evaluate(path, NUMPY, tasks=2, jobs=1, quiet=True)
    return path


def release(run, to):
    command = [sys.executable, "-m", "reptile_np.pretrained", run, "--to", to]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def released(run, tmp_path_factory):
    """The file of the run's weights."""
    to = tmp_path_factory.mktemp("released") / "g.npz"
    assert release(run, to).returncode == 0
    return to


def test_a_released_file_holds_the_run_s_state_bitwise_and_its_record(run, released):
    trained = weights.read(released)
    preset, seed = RunDirectory(run).config()
    step = RunDirectory(run).load(weights.parts(preset)[2])
    np.testing.assert_array_equal(trained.phi, step.phi)
    np.testing.assert_array_equal(trained.state.v, step.inner_state.v)
    assert (trained.state.t, trained.state.m.size) == (step.inner_state.t, 0)
    assert trained.record["seed"] == seed
    assert trained.record["result"] == json.loads((run / "result.json").read_text())
    assert [evaluation["tasks"] for evaluation in trained.record["evaluations"]] == [2]


def test_a_run_is_released_as_the_same_bytes_every_time(run, tmp_path):
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for to in files:
        assert release(run, to).returncode == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_is_not_released_into_a_folder_and_one_line_says_so(run, tmp_path):
    for place in (".", tmp_path):
        done = release(run, place)
        assert done.returncode == 2
        assert done.stderr == (
            f"reptile-np: --to {place}: cannot be written (Is a directory); "
            "give the name of a file that can be written\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_released(run, tmp_path):
    copy = tmp_path / "run"
    copy.mkdir()
    for file in run.iterdir():
        if file.name != "result.json":
            (copy / file.name).write_bytes(file.read_bytes())
    done = release(copy, tmp_path / "g.npz")
    assert done.returncode == 2
    assert "finish the run first, with --resume" in done.stderr
    assert not (tmp_path / "g.npz").exists()


def test_a_checkpoint_of_an_earlier_step_is_not_released_and_a_file_is_replaced_only_by_a_whole_one(
    run, tmp_path, monkeypatch
):
    to = tmp_path / "g.npz"
    __main__.release(run, to)
    released = to.read_bytes()
    monkeypatch.setattr(__main__, "read", lambda path: archives.refuse(f"{path}: not whole"))
    with pytest.raises(UsageError, match="not whole"):
        __main__.release(run, to)
    monkeypatch.undo()
    config = RunDirectory(run).config
    copy = shutil.copytree(run, tmp_path / "run")
    longer = replace(config()[0], outer=replace(config()[0].outer, steps=config()[0].outer.steps + 1))
    step = RunDirectory(copy).load(weights.parts(longer)[2])
    RunDirectory(copy).write_config(longer, 0)
    save_step(copy, step, identity(longer, 0))
    with pytest.raises(UsageError, match="its checkpoint is of outer step"):
        __main__.release(copy, to)
    assert to.read_bytes() == released
    assert list(tmp_path.glob("*.npz")) == [to]


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match='no released weights "glyphs"; there are glyphs-5way'):
        pretrained.load("glyphs")
    for name in ("", "../weights", "x" * 10_000, "\n", None):
        with pytest.raises(UsageError, match="no released weights"):
            pretrained.load(name)


ARRAYS = {
    "other network": lambda arrays: arrays.update(phi=arrays["phi"][:-1]),
    "no record": lambda arrays: arrays.pop("record"),
    "infinite": lambda arrays: arrays["phi"].__setitem__(3, np.inf),
    "a short moment": lambda arrays: arrays.update(state_v=arrays["state_v"][:-1]),
    "a moment that is not a number": lambda arrays: arrays["state_v"].__setitem__(3, np.nan),
    "a moment in float64": lambda arrays: arrays.update(state_v=arrays["state_v"].astype(float)),
    "a negative moment": lambda arrays: arrays["state_v"].__setitem__(3, -1.0),
    "a negative number of steps": lambda arrays: arrays.update(state_t=np.array(-5)),
    "a number of steps that is not whole": lambda arrays: arrays.update(state_t=np.array(3.7)),
    "parameters in float64": lambda arrays: arrays.update(phi=arrays["phi"].astype(float)),
    "an unknown array": lambda arrays: arrays.update(state_w=arrays["phi"]),
}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", *ARRAYS])
def test_a_damaged_file_is_one_line(released, tmp_path, damage):
    to = shutil.copy(released, tmp_path / "g.npz")
    content = bytearray(to.read_bytes())
    if damage in ARRAYS:
        arrays = dict(np.load(to))
        ARRAYS[damage](arrays)
        np.savez(to, **arrays)
    else:
        if damage == "flipped":
            content[len(content) // 2] ^= 0xFF
        to.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    with pytest.raises(UsageError, match="not whole weights") as error:
        weights.read(to)
    assert "\n" not in str(error.value)


def test_evaluate_takes_released_weights_and_writes_nothing(capsys):
    before = {file: file.read_bytes() for file in FOLDER.iterdir() if file.is_file()}
    command = ["evaluate", "pretrained:glyphs-5way", "--tasks", "40", "--jobs", "1", "--quiet", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["preset"], result["outer_steps"]) == ("glyphs-5way", 1000)
    assert result["accuracy"]["transductive"]["mean"] > 0.8
    assert {file: file.read_bytes() for file in FOLDER.iterdir() if file.is_file()} == before
    assert main(["evaluate", "pretrained:nothing"]) == 2
    assert 'no released weights "nothing"' in capsys.readouterr().err
