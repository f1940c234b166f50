"""Records, environment and result of a run: written in order, read back, refused where damaged."""

import os

import pytest

from reptile_np.errors import UsageError
from reptile_np.experiments import runs
from reptile_np.experiments.run_directory import RunDirectory
from reptile_np.nn.ops import NUMPY
from tests.experiments.small import experiment, small

NO_SECONDS = (b'"3"', b"NaN", b"Infinity", b"-1", b"true", b"null")


def records(directory):
    return (directory.path / "records.jsonl").read_bytes()


def test_a_record_after_half_a_line_begins_a_line_of_its_own(directory):
    directory.append({"outer_step": 1})
    with (directory.path / "records.jsonl").open("ab") as file:
        file.write(b'{"outer_st')
    directory.append({"outer_step": 2})
    assert records(directory) == b'{"outer_step": 1}\n{"outer_st\n{"outer_step": 2}\n'


def test_later_and_damaged_records_are_dropped(directory):
    whole = b'{"outer_step": 1}\n{"outer_step": 3, "evaluation": {}}\n'
    damaged = [
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        *(b'{"outer_step": %s}' % step for step in (b'"x"', b'"7.5"', b"2.5", b"true", b"-1", b"-Infinity")),
        b'{"outer_step": 3, "evaluation": 1}',
    ]
    lines = whole + b'{"outer_step": 4}\n' + b"\n".join(damaged) + b'\n{"outer_st'
    (directory.path / "records.jsonl").write_bytes(lines)
    directory.forget_after(3)
    assert records(directory) == whole


def test_records_that_are_all_kept_are_not_written_again(directory):
    """So that an evaluation which another process appends at that moment is not lost."""
    directory.append({"outer_step": 3, "loss": 1.0})
    before = (directory.path / "records.jsonl").stat().st_ino
    directory.forget_after(3)
    assert (directory.path / "records.jsonl").stat().st_ino == before


def test_records_are_on_disk_before_the_state_after_them_and_evaluations_at_once(directory, monkeypatch):
    path, original, written = directory.path / "records.jsonl", os.fsync, []

    def fsync(descriptor):
        is_records = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
        written.append("records" if is_records else "other")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    directory.append({"outer_step": 1, "loss": 1.0})
    assert written == []
    directory.save(experiment("sine-reptile").start(), [])
    assert written[0] == "records"
    assert written.count("records") == 1
    directory.append({"outer_step": 1, "evaluation": {}})
    assert written[-1] == "records"
    assert written.count("records") == 2


def test_nan_is_never_written(directory):
    with pytest.raises(ValueError, match="JSON"):
        directory.append({"outer_step": 1, "loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        directory.write_json("result.json", {"error": float("inf")})
    assert not (directory.path / "records.jsonl").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"sittings": 3}',
        b'{"sittings": [{}]}',
        b'{"sittings": [{"seconds": 1}]}',
        b"\xff",
        b"[" * 100_000,
        *(b'{"sittings": [{"kernels": "numpy", "seconds": %s}]}' % x for x in NO_SECONDS),
    ],
)
def test_a_damaged_environment_is_said_and_does_not_end_the_run(directory, capsys, content):
    (directory.path / "environment.json").write_bytes(content)
    assert directory.sittings() == []
    assert "environment.json: damaged" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["missing", "folder"])
def test_a_run_whose_environment_is_lost_says_that_its_images_are_not_known(tmp_path, capsys, state):
    runs.train(small("sine-reptile", "outer.steps=2"), 0, NUMPY, out=tmp_path / "run", quiet=True)
    directory = RunDirectory(tmp_path / "run")
    assert directory.sittings()
    (tmp_path / "run/environment.json").unlink()
    if state == "folder":
        (tmp_path / "run/environment.json").mkdir()
    assert directory.sittings() == []
    assert "it is not known on which images the run was trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [
        b'"outer_steps": "3"',
        b'"outer_steps": 3.0',
        b'"accuracy": {"transductive": null}',
        b'"accuracy": {"transductive": "high"}',
        b'"accuracy": {"transductive": NaN}',
        b'"accuracy": [0.5]',
        b'"error": "low"',
        b'"error": Infinity',
        b'"error": 1e999',
    ],
)
def test_a_result_with_a_score_that_is_no_number_is_damaged(directory, changed):
    whole = b'{"seconds": 1, "outer_steps": 3, "accuracy": {"transductive": 0.5}, "error": 0.1}'
    (directory.path / "result.json").write_bytes(whole)
    assert directory.result()["accuracy"] == {"transductive": 0.5}
    (directory.path / "result.json").write_bytes(whole[:-1] + b", " + changed + b"}")
    with pytest.raises(UsageError, match=r"result\.json: damaged; remove it and resume the run"):
        directory.result()


def test_a_sitting_that_was_killed_before_its_first_save_has_0_seconds(directory):
    sitting = {"kernels": "numpy", "seconds": 0.0}
    directory.write_json("environment.json", {"sittings": [sitting]})
    assert directory.sittings() == [sitting]


def test_files_that_an_editor_saved_with_a_byte_order_mark_are_read(directory):
    texts = {
        "result.json": '{"seconds": 1, "outer_steps": 3}',
        "environment.json": '{"sittings": [{"kernels": "numpy", "seconds": 1}]}',
        "records.jsonl": '{"outer_step": 2}\n',
    }
    for name, text in texts.items():
        (directory.path / name).write_text(text, encoding="utf-8-sig")
    assert directory.result()["outer_steps"] == 3
    assert [sitting["kernels"] for sitting in directory.sittings()] == ["numpy"]
    assert directory.records() == [{"outer_step": 2}]


def test_a_record_that_has_nan_is_damaged(directory):
    (directory.path / "records.jsonl").write_bytes(
        b'{"outer_step": 1, "first_loss": NaN}\n{"outer_step": 2, "first_loss": 0.5}\n'
    )
    assert [record["outer_step"] for record in directory.records()] == [2]


@pytest.mark.parametrize("seconds", NO_SECONDS)
def test_a_result_without_a_finite_time_is_damaged(directory, seconds):
    (directory.path / "result.json").write_bytes(b'{"outer_steps": 3, "seconds": %s}' % seconds)
    with pytest.raises(UsageError, match=r"result\.json: damaged; remove it and resume the run"):
        directory.result()
