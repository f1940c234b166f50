"""Write the API reference: python .ci/api_reference.py DIR (needs the extra `docs`).

It is ``pdoc --docformat numpy reptile_np -o DIR`` with one correction: pdoc 16 looks for the names in the
annotations of a constructor that Python generates (named tuples, dataclasses) outside of the class's module,
and warns about every one.  Here they are looked up in that module.  Every warning is an error.
"""

import sys
import warnings
from importlib import import_module
from pathlib import Path

import pdoc
import pdoc.doc
from pdoc.doc_types import safe_eval_type


def evaluate(annotation, names, local_names, module, fullname):
    """Evaluate an annotation with the names of the module in which `fullname` is."""
    parts = fullname.split(".")
    for end in range(len(parts), 0, -1):
        home = sys.modules.get(".".join(parts[:end]))
        if home is not None:
            break
    owner = vars(home).get(parts[end]) if end < len(parts) else None
    if not isinstance(owner, type):
        return safe_eval_type(annotation, names, local_names, module, fullname)
    places = [*(sys.modules[base.__module__] for base in reversed(owner.__mro__)), home]
    known = {name: value for place in places for name, value in vars(place).items()}
    return safe_eval_type(annotation, {**known, **names}, local_names, None, fullname)


def main(folder):
    """Write the pages."""
    warnings.simplefilter("error")
    if sys.version_info < (3, 12):  # earlier Pythons do not tell the bases of a TypedDict
        warnings.filterwarnings("ignore", r"Cannot determine where reptile_np\.bench\.measurement\.Row\.")
    pdoc.doc.safe_eval_type = evaluate
    pdoc.render.configure(docformat="numpy")
    import_module("reptile_np")
    pdoc.pdoc("reptile_np", output_directory=Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
