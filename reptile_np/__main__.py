"""``python -m reptile_np`` is ``reptile-np``."""

from reptile_np.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
