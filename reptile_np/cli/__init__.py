"""The command line: `main` is the program ``reptile-np``, and ``python -m reptile_np``.

Exit codes: 0 done, 1 a claim or check does not hold or a run of ``reproduce`` failed, 2 unusable arguments
or data (one line that says what, where and what to do), 130 stopped by Ctrl-C, by ``kill`` or because the
terminal was closed.  ``--json`` puts one JSON object on the last line of standard output; progress, notes and
errors go to standard error.

    program.py      from the arguments to a command, and from every error to one line
    arguments.py    options that several commands share, and their types
    terminal.py     what is printed, in which colour, and to streams that may be closed or full
    signals.py      Ctrl-C and kill
    training.py     train, evaluate
    reproducing.py  reproduce
    status.py       what each run of reproduce does, while they are at work
    drawing.py      figure
    listing.py      list, show, runs
    checking.py     verify, bench
    data.py         data
    classify.py     classify
    play.py         play

Verified by ``tests/test_cli.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from reptile_np.cli import signals

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.  None: as a program, whose arguments are the process's.

    The rest of the program is imported once Ctrl-C has been taken care of.
    """
    if argv is None:
        signals.end_at_once()
    from reptile_np.cli.program import run

    return run(argv)
