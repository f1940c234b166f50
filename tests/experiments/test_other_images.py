"""A run records the images that it was trained on: it is not resumed with others, and a test says so."""

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reptile_np.cli import main
from reptile_np.errors import UsageError
from reptile_np.experiments import records, run_list, runs
from reptile_np.experiments.checkpoints import save_step
from reptile_np.experiments.experiment import make_experiment
from reptile_np.experiments.paired import compare
from reptile_np.experiments.parallel import processes
from reptile_np.experiments.presets import get
from reptile_np.experiments.reproduction import PlannedRun, work
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.experiments.run_json import identity
from reptile_np.nn.ops import NUMPY
from reptile_np.tasks.folder import import_folder, load
from tests.experiments.small import small
from tests.tasks.image_sets import jpeg, write

pytest.importorskip("PIL.Image", reason="decoding needs the extra images")
SETTINGS = "outer.steps=2", "tasks.shots=5", "filters=2", "evaluation.tasks=1", "evaluation.steps=1"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder of images imported with two seeds, which draw its splits, and a run that saw the first."""
    place = tmp_path_factory.mktemp("images")
    files = {f"photos/{c}/{i}.png": jpeg(100 * c + i, 28, "PNG") for c in range(16) for i in range(8)}
    write(place, files)
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        import_folder(place / "photos", place / name, size=28, grey=True, seed=seed)
    train(place, "first")
    return place


def test_the_folder_of_the_images_is_recorded_so_that_it_is_found_from_everywhere(
    places, tmp_path, monkeypatch
):
    monkeypatch.chdir(places)
    runs.train(
        small("images-5way", *SETTINGS), 0, NUMPY, data=Path("first"), out=tmp_path / "run", quiet=True
    )
    assert RunDirectory(tmp_path / "run").sittings()[-1]["data"] == str(places / "first")


def train(place, images, **more):
    preset = small("images-5way", *SETTINGS)
    runs.train(preset, 0, NUMPY, data=place / images, out=place / "run", quiet=True, **more)


def test_the_digest_of_a_data_set_is_that_of_its_images_and_splits(places):
    first, again, other = (load(places / name).sha256 for name in ("first", "again", "other"))
    assert first == again
    assert first != other


def test_a_run_records_the_images_that_it_was_trained_on(places):
    (sitting,) = json.loads((places / "run/environment.json").read_text())["sittings"]
    assert sitting["images_sha256"] == load(places / "first").sha256


def test_a_run_is_not_resumed_with_another_split(places):
    with pytest.raises(UsageError, match="was trained on other images than these, or on another split"):
        train(places, "other", resume=True)
    train(places, "again", resume=True)


def test_an_evaluation_with_another_split_says_so_and_records_it(places, capsys):
    for images, other in (("again", False), ("other", True)):
        result = runs.evaluate(places / "run", NUMPY, data=places / images, tasks=1, quiet=True)
        assert result.get("other_images", False) == other
        said = capsys.readouterr().err
        assert said.count("classes that are tested may be training classes") == other
        both = places / "run", places / "run"
        compare(both, NUMPY, data=places / images, tasks=1, jobs=1, quiet=True)
        said = capsys.readouterr().err
        assert said.count("classes that are tested may be training classes") == 2 * other


def test_a_run_remembers_the_folder_of_its_images(places, monkeypatch):
    run = places / "run"
    result = runs.evaluate(run, NUMPY, tasks=1, jobs=1, quiet=True)
    assert "other_images" not in result
    runs.train(small("images-5way", *SETTINGS), 0, NUMPY, out=run, resume=True, quiet=True)
    assert compare((run, run), NUMPY, tasks=1, jobs=1, quiet=True)["a"]["preset"] == "images-5way"
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "nothing"))
    (places / "first").rename(places / "elsewhere")
    try:
        gone = f"the run's images were in {places / 'first'}, which is not there now: give their folder with"
        with pytest.raises(UsageError, match=f"not imported .*; {re.escape(gone)} --data$"):
            runs.evaluate(run, NUMPY, tasks=1, jobs=1, quiet=True)
        with pytest.raises(UsageError, match=re.escape(gone)):
            runs.train(small("images-5way", *SETTINGS), 0, NUMPY, out=run, resume=True, quiet=True)
    finally:
        (places / "elsewhere").rename(places / "first")


def test_the_folder_of_the_images_is_recorded_before_the_first_checkpoint(places, tmp_path):
    def stop(what, done, total):
        raise KeyboardInterrupt

    preset, run = small("images-5way", *SETTINGS), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        runs.train(preset, 0, NUMPY, data=places / "first", out=run, quiet=True, report=stop)
    assert not RunDirectory(run).has_checkpoint()
    with pytest.raises(UsageError, match="was trained on other images than these, or on another split"):
        runs.train(preset, 0, NUMPY, data=places / "other", out=run, resume=True, quiet=True)
    runs.train(preset, 0, NUMPY, out=run, resume=True, quiet=True)
    sitting = RunDirectory(run).sittings()[-1]
    assert (sitting["data"], sitting["to_step"]) == (str(places / "first"), 2)


def test_a_run_on_a_folder_is_evaluated_on_it_also_if_the_source_is_named(places):
    result = runs.evaluate(
        places / "run", NUMPY, settings=["tasks.source=folder"], tasks=1, jobs=1, quiet=True
    )
    assert "other_images" not in result


def test_settings_of_an_evaluation_that_are_one_text_are_refused(places):
    with pytest.raises(UsageError, match=r"^settings is text; give a list: \['tasks.source=folder'\]$"):
        runs.evaluate(places / "run", NUMPY, settings="tasks.source=folder", tasks=1, jobs=1, quiet=True)


def test_a_copy_of_the_records_does_not_have_the_folder_of_the_images(places, tmp_path):
    copy = RunDirectory(records.export(places / "run", tmp_path))
    assert all(sitting["data"] is None for sitting in copy.sittings())
    assert copy.sittings()[-1]["images_sha256"] == load(places / "first").sha256


def test_a_table_s_run_is_not_evaluated_on_other_images(places):
    preset = small("images-5way", *SETTINGS)
    specs = (replace(preset.evaluation, tasks=7, shots=5),)
    before = RunDirectory(places / "run").records()
    with pytest.raises(UsageError, match=r"was trained on other images .* give their folder with --data"):
        work(PlannedRun(preset, 0, places / "run", specs, "numpy", places / "other"))
    assert RunDirectory(places / "run").records() == before


def test_runs_of_different_images_are_not_compared(places, tmp_path):
    preset = small("images-5way", *SETTINGS)
    runs.train(preset, 0, NUMPY, data=places / "other", out=tmp_path / "run", quiet=True)
    with pytest.raises(UsageError, match="the two runs read different images; give one folder with --data"):
        compare((places / "run", tmp_path / "run"), NUMPY, tasks=1, jobs=1, quiet=True)


def test_released_weights_are_evaluated_on_a_folder_of_other_images(places, capsys):
    command = [
        "evaluate",
        "pretrained:omniglot-5way",
        "--data",
        str(places / "first"),
        "--tasks",
        "1",
        "--json",
    ]
    assert main([*command, "--set", "tasks.source=folder"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["tasks"], result["other_images"]) == (1, True)
    assert main([*command, "--set", "evaluation.steps=3"]) == 2
    assert "an evaluation changes tasks.source only" in capsys.readouterr().err


def test_other_images_that_were_asked_for_are_not_called_possible_training_classes(places, tmp_path, capsys):
    run = shutil.copytree(places / "run", tmp_path / "run")
    preset, seed = RunDirectory(run).config()
    drawn = replace(preset, tasks=replace(preset.tasks, source="omniglot"))
    step = RunDirectory(run).load(make_experiment(preset, seed, NUMPY, places / "first").start())
    RunDirectory(run).write_config(drawn, seed)
    save_step(run, step, identity(drawn, seed))
    folder = {"settings": ["tasks.source=folder"], "data": places / "other"}
    result = runs.evaluate(run, NUMPY, **folder, tasks=1, jobs=1, quiet=True)
    assert result["other_images"] is True
    assert capsys.readouterr().err == ""


def test_a_run_of_inverted_images_is_not_evaluated_on_a_folder_whose_images_are_not_inverted(
    places, tmp_path
):
    with RunDirectory(tmp_path / "finn").begin(get("maml-omniglot-5way-1shot"), 0):
        pass
    with pytest.raises(UsageError, match="the run's images were inverted"):
        runs.evaluate(
            tmp_path / "finn", NUMPY, settings=["tasks.source=folder"], data=places / "first", tasks=1
        )


def test_an_evaluation_on_other_images_is_not_the_run_s_accuracy(places):
    runs.evaluate(places / "run", NUMPY, data=places / "first", tasks=1, quiet=True)
    (before,) = run_list.find(places / "run")
    other = {"split": "test", "tasks": 1, "shots": 5, "accuracy": {"transductive": {"mean": 2.0}}}
    RunDirectory(places / "run").append({"outer_step": 2, "evaluation": {**other, "other_images": True}})
    (after,) = run_list.find(places / "run")
    assert after.accuracy == before.accuracy
    preset = small("images-5way", *SETTINGS)
    spec = replace(preset.evaluation, tasks=1, shots=5)
    found = PlannedRun(preset, 0, places / "run", (spec,)).evaluation(spec)
    assert found is not None
    assert found["accuracy"] != other["accuracy"]


@pytest.fixture
def imported_again(places, tmp_path):
    """An experiment on images that are then replaced, and one on those that took their place."""
    preset, data = small("images-5way", *SETTINGS), tmp_path / "images"
    made = []
    for name in ("first", "other"):
        shutil.copytree(places / name, data, dirs_exist_ok=True)
        made.append(make_experiment(preset, 0, NUMPY, data))
        if name == "first":
            pickle.loads(pickle.dumps(replace(made[0], seed=1)))  # as in a worker that stays
    return made


def test_a_worker_that_stays_reads_images_that_were_imported_again(imported_again):
    _, now = imported_again
    again = pickle.loads(pickle.dumps(replace(now, seed=1)))
    assert again.episodes.images_sha256 == now.episodes.images_sha256


def test_a_worker_that_finds_other_images_says_so_in_one_line(imported_again):
    before, _ = imported_again
    says = "a worker process finds other images than the evaluation began with"
    with pytest.raises(UsageError, match=says):
        pickle.loads(pickle.dumps(before))
    with processes(2) as executor, pytest.raises(UsageError, match=says) as error:
        before.evaluate(before.start(), executor=executor)
    assert str(error.value).isprintable()
