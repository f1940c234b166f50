"""What can be reproduced: each table, figure and study, as the presets to run and how to evaluate them.

Verified by ``tests/experiments/test_reproduction.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from reptile_np.errors import UsageError, printable
from reptile_np.experiments import presets
from reptile_np.experiments.specs import EvaluationSpec, Preset

__all__ = ["TARGETS", "TASKS", "Target", "get"]

TASKS = 10_000  # test tasks of an evaluation, as in the paper, if the target has no number of its own


@dataclass(frozen=True)
class Target:
    """A table, a figure or a study: the names of its presets, and how each of them is evaluated.

    An evaluation has `tasks` test tasks.  There is one for each K of `shots`, or, if `shots` is empty, for
    each K of which the paper has a number.
    """

    name: str
    title: str
    presets: tuple[str, ...]
    tasks: int = TASKS
    shots: tuple[int, ...] = ()

    def evaluations(self, preset: Preset) -> tuple[EvaluationSpec, ...]:
        """Return one evaluation for each K, or the preset's own if there is none; both modes each."""
        own = replace(preset.evaluation, tasks=self.tasks)
        shots = self.shots or sorted({cell.shots for cell in preset.published}) or [own.shots]
        return tuple(replace(own, shots=k) for k in shots)

    def only(self, pattern: str) -> Target:
        """Return the target with the presets whose name matches a pattern such as ``*-20way*``.

        Raises
        ------
        UsageError
            If there is none.
        """
        names = tuple(name for name in self.presets if fnmatchcase(name, pattern))
        if not names:
            raise UsageError(f"--only {printable(pattern)}: {self.name} has {', '.join(self.presets)}")
        return replace(self, presets=names)


def _beginning(*prefixes: str, of: Iterable[str] = presets.PRESETS) -> tuple[str, ...]:
    return tuple(name for name in of if name.startswith(prefixes))


TARGETS = {
    target.name: target
    for target in (
        Target("table1", "Table 1: Mini-ImageNet", _beginning("mini-imagenet", "maml-mini", "fomaml-mini")),
        Target("table2", "Table 2: Omniglot", _beginning("omniglot", "maml-omniglot", "fomaml-omniglot")),
        Target(
            "figure1", "Figure 1: sine waves", _beginning("sine-reptile", "sine-maml", "sine-joint"), 1000
        ),
        Target("figure3", "Figure 3: combinations of inner gradients", _beginning("figure3")),
        Target(
            "same-k", "Methods at the same k, glyphs", _beginning("same-k-glyphs", of=presets.SAME_K), 1000
        ),
        Target(
            "same-k-omniglot",
            "Methods at the same k, Omniglot",
            _beginning("same-k-omniglot", of=presets.SAME_K),
            1000,
        ),
        Target(
            "methods",
            "Methods, same number of gradients, Omniglot",
            _beginning("methods"),
            2000,
            shots=(1, 5),
        ),
    )
}


def get(name: str) -> Target:
    """Return the target of that name.

    Raises
    ------
    UsageError
        If there is none; names the nearest ones, or all if none is near.
    """
    if name == "figure2":
        raise UsageError("figure 2 needs no runs; draw it: reptile-np figure 2")
    if name not in TARGETS:
        near = ", ".join(get_close_matches(str(name), TARGETS))
        advice = f"did you mean {near}?" if near else f"choose one of {', '.join(TARGETS)}"
        raise UsageError(f'cannot reproduce "{printable(name)}"; {advice}')
    return TARGETS[name]
