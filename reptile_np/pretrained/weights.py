"""The files of released weights: one compressed .npz for each name, a run's last state and its record.

    record      JSON: preset, seed, outer_steps, and the scores and evaluations of the run
    phi         the initialisation (n,), float32
    state_…     the inner optimiser's state after training: state_v (n,) and state_t for Adam

Empty arrays (the m of Adam with beta1 = 0) are not stored.

Verified by ``tests/pretrained/test_weights.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reptile_np.errors import UsageError, printable, reason
from reptile_np.experiments import checkpoints
from reptile_np.experiments.experiment import inner_optimizer, network, outer_optimizers
from reptile_np.experiments.settings import from_json
from reptile_np.experiments.specs import Preset
from reptile_np.meta.inner_loop import Array, Optimizer
from reptile_np.meta.training import Step, begin
from reptile_np.nn.models import Model

__all__ = ["Pretrained", "ReleasedRun", "load", "names", "parts", "read"]


class Pretrained(NamedTuple):
    """A meta-trained initialisation and all that is needed to fine-tune it.

    `model` computes with NumPy (``model.with_ops(native.load())``: with C); `phi` (n,) is float32; `state` is
    the inner optimiser's after training; `record` says which preset and seed, and what the run scored.
    """

    model: Model
    phi: Array
    optimizer: Optimizer
    state: Any
    record: dict[str, Any]


def names() -> list[str]:
    """Return the names of the released weights."""
    return sorted(
        file.name.removesuffix(".npz")
        for file in files("reptile_np.pretrained").iterdir()
        if file.name.endswith(".npz")
    )


def load(name: str) -> Pretrained:
    """Return the released weights of that name.

    Raises
    ------
    UsageError
        If there are none; says which there are.
    """
    if name not in names():
        near = ", ".join(get_close_matches(str(name), names()) or names())
        raise UsageError(f'no released weights "{printable(name)}"; there are {near}')
    with as_file(files("reptile_np.pretrained").joinpath(f"{name}.npz")) as path:
        return read(path)


def read(path: Path) -> Pretrained:
    """Return the weights in one file.

    Raises
    ------
    UsageError
        If the file is missing, damaged, or not of the network and optimiser of its record.
    """
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        record = json.loads(arrays.pop("record").item())
        preset = from_json(record["preset"])
        model, optimizer, untrained = parts(preset)
        state = untrained.inner_state
        checkpoints.check(arrays, {"phi": untrained.phi, **checkpoints.state_arrays("state", state)})
        state = checkpoints.optimizer_state("state", arrays, state)
        return Pretrained(model, arrays["phi"], optimizer, state, record)
    except MemoryError:  # of this machine, not of the file
        raise
    except Exception as error:  # a damaged file makes zipfile and NumPy raise nearly anything
        raise UsageError(f"{path}: not whole weights ({reason(error)}); install reptile_np again") from None


def parts(preset: Preset) -> tuple[Model, Optimizer, Step]:
    """Return the network of a preset in NumPy, its inner optimiser, and a state that was not trained."""
    model, _ = network(preset)
    inner = inner_optimizer(preset.inner, model)
    phi = model.init(np.random.default_rng(0))
    return model, inner, begin(phi, inner, outer_optimizers(preset.outer)(0))


@dataclass(frozen=True)
class ReleasedRun:
    """Released weights in the place of a run directory: what an evaluation reads of a run."""

    name: str

    def config(self) -> tuple[Preset, int]:
        """Return the preset and the seed of the run."""
        record = load(self.name).record
        return from_json(record["preset"]), record["seed"]

    def load(self, template: Step) -> Step:
        """Return the trained state; the outer optimiser's is that of `template`."""
        trained = load(self.name)
        return replace(
            template, done=trained.record["outer_steps"], phi=trained.phi, inner_state=trained.state
        )

    def sittings(self) -> list[dict[str, Any]]:
        """Return none: released weights do not record them."""
        return []

    def append(self, record: dict[str, Any], advice: str = "") -> None:
        """Keep no record: the package's files are never written."""
