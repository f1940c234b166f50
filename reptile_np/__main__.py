"""``python -m reptile_np`` is ``reptile-np``."""

from reptile_np.cli import main

raise SystemExit(main())
