"""The small runs that the tests of `reproduce` make; the fixture `undisturbed` has finished ones."""

STEPS = 25
SETTINGS = [
    f"outer.steps={STEPS}",
    "evaluation.tasks=3",
    "evaluation.steps=2",
    "filters=8",
    "tasks.classes=60",
]
SMALL = [part for setting in SETTINGS for part in ("--set", setting)]
ONLY = "same-k-glyphs-[rf]*-k2"  # Reptile and first-order MAML


def command(out, *more, jobs=2):
    """The arguments of the command that makes them in the folder `out`."""
    return [
        "reproduce", "same-k", "--only", ONLY, "--ops", "numpy", "--jobs", str(jobs), "--out", str(out),
        "--seeds", "0,1", *SMALL, *more,
    ]  # fmt: skip


def evaluation(scores):
    """Return the record of an evaluation that the table wants, with these scores."""
    return f'{{"outer_step": {STEPS}, "evaluation": {{"split": "test", "tasks": 3, "shots": 1, {scores}}}}}'


def checkpoints(out):
    """{name of a run: the bytes of its checkpoint}."""
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob("*/checkpoint.npz"))}
