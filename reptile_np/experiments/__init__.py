"""From a preset's name to a result: frozen presets, their problems, run directories, progress."""
