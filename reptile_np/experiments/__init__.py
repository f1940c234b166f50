"""From a preset's name to a result: presets, experiments made of them, run directories, runs."""
