"""The files of one run.

    DIR/lock                     locked while a run is at work; no content
    DIR/config.json              format, the preset as it runs, the seed, and the SHA-256 of these two
    DIR/environment.json         for each sitting: versions, processor, kernels, outer steps, seconds
    DIR/checkpoint.npz           the newest saved state; replaced atomically
    DIR/checkpoint-before.npz    the state saved before that, for the case that the newest is damaged
    DIR/checkpoint-damaged.npz   a newest state that was damaged, and was set aside on resume
    DIR/records.jsonl            one line per logged outer step, and one per evaluation
    DIR/result.json              the scores, once the run is done
    DIR/progress.json            how far a run of ``reproduce`` is; removed when it ends

Every file but the lock is JSON without NaN, or .npz.
Verified by ``tests/experiments/test_run_directory.py`` and ``test_run_files.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from reptile_np import files
from reptile_np.errors import UsageError, reason
from reptile_np.experiments import checkpoints
from reptile_np.experiments.progress import notice
from reptile_np.experiments.run_json import (
    DAMAGED,
    config_values,
    read_config,
    read_record,
    read_result,
    read_sittings,
)
from reptile_np.experiments.specs import Preset
from reptile_np.meta.training import Step

__all__ = ["AGAIN", "CHOOSE_ANOTHER", "GO_ON", "RunDirectory", "RunIsBusy", "SavedRun"]

LOCK, CONFIG, ENVIRONMENT = "lock", "config.json", "environment.json"
RECORDS, RESULT = "records.jsonl", "result.json"
CHOOSE_ANOTHER, RESUME = "choose another --out", ", or continue with --resume"
GO_ON = "the files saved before are intact: remove the cause, then continue with --resume"
AGAIN = "nothing was saved before: remove the cause, then give the same command again"


class RunIsBusy(UsageError):
    """Another process is at work in the run's directory."""


class SavedRun(Protocol):
    """What an evaluation reads of a run: a `RunDirectory`, or released weights in its place."""

    def config(self) -> tuple[Preset, int]:
        """Return the preset and the seed."""

    def load(self, template: Step) -> Step:
        """Return the trained state."""

    def sittings(self) -> list[dict[str, Any]]:
        """Return the environments of the run's sittings."""

    def append(self, record: dict[str, Any], advice: str = "") -> None:
        """Keep a record; `advice` is what to do if it cannot be written."""


@dataclass(frozen=True)
class RunDirectory:
    """The directory of one run."""

    path: Path

    @contextmanager
    def begin(self, preset: Preset, seed: int) -> Iterator[None]:
        """Make the directory, lock it, and write what runs in it.

        If a `UsageError` ends the run before its first checkpoint, the files are removed again, so that
        the corrected command can use the directory.

        Raises
        ------
        UsageError
            If the directory has content, another run is at work in it, or it cannot be written.
        """
        self._check_empty()
        with self._writing(CHOOSE_ANOTHER):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._check_empty()
            self.write_config(preset, seed)
            _ = self._identity
            try:
                yield
            except UsageError:
                if self._is_in_place() and not self.has_checkpoint():
                    for name in (RECORDS, ENVIRONMENT, CONFIG):  # CONFIG last: a run to resume
                        (self.path / name).unlink(missing_ok=True)
                raise

    @contextmanager
    def resume(self) -> Iterator[None]:
        """Lock the directory of a run that was begun.

        Raises
        ------
        UsageError
            If another run is at work in it, or it cannot be written.
        """
        with self._locked():
            yield

    def config(self) -> tuple[Preset, int]:
        """Return the preset and the seed of the run.

        Raises
        ------
        UsageError
            If there is no run here, or its config.json is damaged, altered, or of a newer version.
        """
        path, content = self.path / CONFIG, self._content(CONFIG)
        if content is None:
            raise UsageError(f"{path}: no run here; give the directory of a run, which has a {CONFIG}")
        try:
            return read_config(content)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def write_config(self, preset: Preset, seed: int, advice: str = CHOOSE_ANOTHER) -> None:
        """Write what runs in the directory; `advice` is what to do if it cannot be written."""
        self.write_json(CONFIG, config_values(preset, seed), advice)

    def save(self, step: Step, sittings: list[dict[str, Any]]) -> None:
        """Save the records, which a resumed run does not make again, then a state, then the sittings.

        Raises
        ------
        UsageError
            If the directory was removed or renamed, holds another run now, or cannot be written.
        """
        self._check_in_place()
        with self._writing():
            files.synchronise(self.path / RECORDS)
            checkpoints.save_step(self.path, step, self._identity)
        self.write_json(ENVIRONMENT, {"sittings": sittings})

    def load(self, template: Step) -> Step:
        """Return the newest whole checkpoint; raises `UsageError` if there is none."""
        if not self.has_checkpoint() and (self.path / RESULT).is_file():
            raise UsageError(
                f"{self.path}: records of a finished run but no checkpoint (runs --export leaves it out); "
                "give the run itself, or released weights, pretrained:NAME"
            )
        return checkpoints.load_newest(self.path, template, self._identity, notice)

    def load_to_continue(self, template: Step) -> Step:
        """Return the newest whole checkpoint, and set a newer, damaged one aside."""

        def fallback(message: str) -> None:
            notice(message)
            with self._writing():
                checkpoints.set_damaged_aside(self.path)

        return checkpoints.load_newest(self.path, template, self._identity, fallback)

    def has_checkpoint(self) -> bool:
        """Return whether a state was saved."""
        return checkpoints.has_checkpoint(self.path)

    def sittings(self) -> list[dict[str, Any]]:
        """Return the environments of the run's sittings until now; [] and a notice if they are lost."""
        path, content = self.path / ENVIRONMENT, self._content(ENVIRONMENT)
        lost = "earlier seconds are not counted, and it is not known on which images the run was trained"
        try:
            if content is not None:
                return read_sittings(content)
            if self.has_checkpoint():
                notice(f"{path}: is missing, or no file; {lost}")
        except DAMAGED:
            notice(f"{path}: damaged; {lost}")
        return []

    def append(self, record: dict[str, Any], advice: str = "") -> None:
        """Append one line to the records; an evaluation also to disk.  Raises as `save`."""
        self._check_in_place()
        line = json.dumps(record, allow_nan=False).encode()
        with self._writing(advice):
            files.append_line(self.path / RECORDS, line)
            if "evaluation" in record:
                files.synchronise(self.path / RECORDS)

    def records(self) -> list[dict[str, Any]]:
        """Return the records, without lines that a kill cut short."""
        lines = (self._content(RECORDS) or b"").split(b"\n")
        return [record for line in lines if (record := read_record(line)) is not None]

    def result(self) -> dict[str, Any] | None:
        """Return the scores of a run that is done, None before; a damaged file raises `UsageError`."""
        content = self._content(RESULT)
        try:
            return None if content is None else read_result(content)
        except DAMAGED:
            raise UsageError(f"{self.path / RESULT}: damaged; remove it and resume the run") from None

    def forget_after(self, done: int, *, evaluations: bool = False) -> None:
        """Drop damaged lines, records after `done`, and evaluations after it if `evaluations` is true.

        If there are such lines, an evaluation that another process appends meanwhile may be lost.
        """
        content = self._content(RECORDS)
        if content is None:
            return
        with self._writing():
            last_evaluation = done if evaluations else sys.maxsize
            last = {True: last_evaluation, False: done}  # by whether the record is of an evaluation
            lines = [(record, x) for x in content.split(b"\n") if (record := read_record(x)) is not None]
            kept = [x for record, x in lines if record["outer_step"] <= last["evaluation" in record]]
            whole = b"".join(line + b"\n" for line in kept)
            if whole != content:
                with files.replacing(self.path / RECORDS) as file:
                    file.write(whole)

    def write_json(self, name: str, values: dict[str, Any], advice: str = "") -> None:
        """Write one JSON file, whole or not at all."""
        text = json.dumps(values, indent=2, allow_nan=False) + "\n"
        with self._writing(advice), files.replacing(self.path / name) as file:
            file.write(text.encode())

    @cached_property
    def _identity(self) -> str:
        """The SHA-256 in config.json, which the run's checkpoints name.

        It is read once: a later change of config.json does not prevent a save.
        """
        self.config()  # which checks it
        return str(json.loads(self._content(CONFIG) or b"{}")["sha256"])

    def _is_in_place(self) -> bool:
        """Return whether the directory still has the config.json of this run, changed by hand or not."""
        content = self._content(CONFIG)
        try:
            return content is not None and json.loads(content)["sha256"] == self._identity
        except DAMAGED:
            return True

    def _check_in_place(self) -> None:
        if not self._is_in_place():
            raise UsageError(
                f"{self.path}: was renamed or removed, or holds another run now; nothing more is saved. "
                "If it was renamed, continue it under its new name with --resume"
            )

    def _content(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        path = self.path / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({reason(error)})") from None

    def _check_empty(self) -> None:
        """Refuse a directory with content; files of a run that was killed at its start do not count."""
        try:
            nothing = {self.path / LOCK, *files.partial_files(self.path)}
            there = set(self.path.iterdir()) - nothing if self.path.is_dir() else self.path.exists()
        except OSError as error:
            raise UsageError(f"--out {self.path}: cannot be read ({reason(error)})") from None
        if there:
            run = (self.path / CONFIG).exists()
            raise UsageError(f"--out {self.path}: exists; choose another{RESUME if run else ''}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other runs out until this one ends or is killed; remove unfinished files of a killed run."""
        with ExitStack() as stack:
            try:
                with self._writing():
                    stack.enter_context(files.locked(self.path / LOCK))
                    files.remove_partial_files(self.path)
            except BlockingIOError:
                raise RunIsBusy(
                    f"--out {self.path}: another run is at work there; wait for it or stop it"
                ) from None
            yield

    @contextmanager
    def _writing(self, advice: str = "") -> Iterator[None]:
        """Raise a `UsageError` of one line if the directory cannot be written."""
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            advice = advice or (GO_ON if self.has_checkpoint() else AGAIN)
            raise UsageError(f"{self.path}: cannot be written ({reason(error)}); {advice}") from None
