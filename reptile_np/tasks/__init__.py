"""Where tasks come from: few-shot samplers, sine waves, glyphs, Omniglot."""
