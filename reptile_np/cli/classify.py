"""The command `classify`: the classes of a user's images, from a few examples of each class.

Verified by ``tests/cli/test_classify.py``.
"""

from __future__ import annotations

import argparse

from reptile_np.cli.arguments import Commands, add_json, one_blas_thread, path
from reptile_np.cli.terminal import BOLD, paint, show, show_json
from reptile_np.errors import UsageError, printable

__all__ = ["TRANSDUCTIVE", "add_to"]

TRANSDUCTIVE = {"non_transductive": False, "transductive": True}
"""Mode ↦ the argument of `Learner.predict_proba`."""


def add_to(commands: Commands) -> None:
    """Add the command."""
    classify = commands.add(
        "classify", _classify, "classify images from a few examples of each class", stopped="stopped"
    )
    classify.add_argument(
        "run", metavar="DIR|pretrained:NAME", help="the folder of a run, or released weights"
    )
    classify.add_argument(
        "--support",
        type=path,
        required=True,
        metavar="DIR",
        help="a folder that has a folder of example images for each class",
    )
    classify.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="an image file to classify")
    add_json(classify)
    classify.more = lambda: (
        "Each image gets its most probable class in two modes: non-transductive (in a\n"
        "batch with the examples, independent of the other images) and transductive\n"
        "(all given images in one batch)."
    )


def _classify(args: argparse.Namespace) -> int:
    one_blas_thread()
    from reptile_np.experiments.image_files import class_folders, read_images
    from reptile_np.pretrained import learner_of, saved_run

    run = saved_run(args.run)
    learner = learner_of(run)
    source = run.config()[0].tasks.source
    shape = learner.model.input_shape
    folders = class_folders(args.support)
    ways = learner.model.output_shape[0]
    if not 2 <= len(folders) <= ways:
        count = f"{len(folders)} class folder{'s' * (len(folders) != 1)}"
        raise UsageError(f"--support {args.support}: {count}; this model distinguishes 2 to {ways} classes")

    examples = [(file, name) for name, files in folders.items() for file in files]
    learner.fit(read_images([file for file, _ in examples], source, shape), [name for _, name in examples])
    images = read_images(args.images, source, shape)
    tables = {
        mode: learner.predict_proba(images, transductive=together) for mode, together in TRANSDUCTIVE.items()
    }
    classes = learner.classes_.tolist()
    if args.json:
        results = [
            {
                "image": str(file),
                **{mode: dict(zip(classes, p[i].tolist(), strict=True)) for mode, p in tables.items()},
            }
            for i, file in enumerate(args.images)
        ]
        show_json({"classes": classes, "examples": len(examples), "images": results})
        return 0
    for i, file in enumerate(args.images):
        show(f"{printable(file)}:")
        for mode, table in tables.items():
            best = printable(classes[table[i].argmax()])
            show(f"{mode.replace('_', '-'):>18}: {paint(best, BOLD)} {table[i].max():.1%}")
    return 0
